"""Whether trials differ by more than chance: over all complete trials, and from a reference problem by problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from scipy.special import chdtrc

from study.paired import paired

if TYPE_CHECKING:
    from trainer.records import SetScore

LEVEL = 0.05


@dataclass(frozen=True)
class Spread:
    """A test that all trials have one accuracy and differ only by which responses were drawn."""

    trials: int
    p: float
    """Chance of differences at least this large if there were none. Knows nothing of training seeds."""

    @property
    def beyond_sampling(self) -> bool:
        """Whether the differences exceed sampling noise at the 5 % level."""
        return self.p < LEVEL


def spread(scores: pl.DataFrame) -> Spread | None:
    """Test equality of `accuracy` given `sampling_error` (one row per trial): sum((a - mean)^2 / error^2) ~ chi2.

    Where every response was right (or wrong) the error is 0 for want of evidence, not of noise: there it is that of one
    right and one wrong response more (Laplace), from the columns `samples` and `problems`.

    None with fewer than two trials, or where an error is not known (one response per problem).
    """
    known = scores.filter(pl.col("accuracy").is_finite() & pl.col("sampling_error").is_finite())
    if known.height < 2 or known.height < scores.height:
        return None
    accuracy, error = known["accuracy"].to_numpy(), known["sampling_error"].to_numpy().copy()
    if not error.all():
        responses = (known["samples"] * known["problems"]).to_numpy()
        rate = (accuracy * responses + 1) / (responses + 2)
        error[error == 0] = ((rate * (1 - rate) / responses) ** 0.5)[error == 0]
    weight = 1 / error**2
    mean = (weight * accuracy).sum() / weight.sum()
    statistic = (weight * (accuracy - mean) ** 2).sum()
    return Spread(known.height, float(chdtrc(known.height - 1, statistic)))


def telling(scores: Sequence[SetScore]) -> int:
    """On how many problems not all of the scores are the same; those of the commonest number of problems count."""
    return sum(len(set(rates)) > 1 for rates in zip(*_rates(scores), strict=True))


def _rates(scores: Sequence[SetScore]) -> list[tuple[float, ...]]:
    counts = [len(score.solved) for score in scores]
    usual = max(counts, key=counts.count, default=0)
    return [tuple(each / s.samples for each in s.solved) for s in scores if len(s.solved) == usual]


AGAINST_SCHEMA: dict[str, Any] = {
    "trial": pl.Int64, "samples": pl.Int64, "problems": pl.Int64, "accuracy": pl.Float64, "sampling_error": pl.Float64,
    "difference": pl.Float64, "error": pl.Float64, "better": pl.Int64, "equal": pl.Int64, "worse": pl.Int64,
}  # fmt: skip


def against(scores: Mapping[int, SetScore], reference: int) -> pl.DataFrame:
    """Each of the `scores` of one step (by trial) minus that of the reference, problem by problem: `AGAINST_SCHEMA`.

    Columns better, equal and worse count problems. A trial with another number of problems has no row; the reference
    itself has no difference.
    """
    rows = []
    for number, own in scores.items():
        if len(own.solved) != len(scores[reference].solved):
            continue
        row: dict[str, Any] = {"trial": number, "samples": own.samples, "problems": len(own.solved)}
        row |= {"accuracy": own.accuracy, "sampling_error": own.sampling_error}
        if number != reference:
            gap = paired(own, scores[reference])
            row |= {"difference": gap.difference, "error": gap.error}
            row |= {"better": gap.better, "equal": gap.problems - gap.better - gap.worse, "worse": gap.worse}
        rows.append(row)
    return pl.DataFrame(rows, schema=AGAINST_SCHEMA)
