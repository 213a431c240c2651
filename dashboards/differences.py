"""Whether trials differ by more than chance: over all complete trials, and between two of them problem by problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from scipy.special import chdtrc

from dashboards import frames, text

if TYPE_CHECKING:
    from study.results import StudyResults
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


FEWEST = 5
"""Problems that have to differ for an error over problems: with fewer, counts say more."""


def telling(scores: Sequence[SetScore]) -> int:
    """On how many problems not all of the scores are the same; those of the commonest number of problems count."""
    return sum(len(set(rates)) > 1 for rates in zip(*_rates(scores), strict=True))


def _rates(scores: Sequence[SetScore]) -> list[tuple[float, ...]]:
    counts = [len(score.solved) for score in scores]
    usual = max(counts, key=counts.count, default=0)
    return [tuple(each / s.samples for each in s.solved) for s in scores if len(s.solved) == usual]


@dataclass(frozen=True)
class Paired:
    """One trial minus another on the same problems."""

    difference: float
    """Of avg@k, as a fraction."""
    error: float | None
    """One standard error over problems; None where fewer than `FEWEST` differ, or all alike: that is no spread."""
    problems: int
    better: int
    """Problems that the one solves more often."""
    worse: int

    @property
    def in_words(self) -> str:
        """What stands after the difference: ± its error, or the counts."""
        if self.error is not None:
            return f" ± {text.points(self.error)} points"
        return f" points, better on {self.better}, worse on {self.worse} of {self.problems}"


def paired(first: SetScore, second: SetScore) -> Paired:
    """Compare two scores of one set. Raises ValueError when they are not over the same number of problems."""
    if len(first.solved) != len(second.solved):
        raise ValueError(f"{first.name}: {len(first.solved)} and {len(second.solved)} problems cannot be paired")
    gaps = per_problem(first, second)["difference"]
    better, worse = int((gaps > 0).sum()), int((gaps < 0).sum())
    spreads = gaps.n_unique() > 1 and better + worse >= FEWEST
    error = float(gaps.std()) / math.sqrt(len(gaps)) if spreads else None
    return Paired(float(gaps.mean()), error, len(gaps), better, worse)


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


def common(results: StudyResults, set_name: str, trials: Sequence[int]) -> tuple[int, dict[int, SetScore]] | None:
    """The last step at which all `trials` evaluated the set, and the score of each; None where there is none.

    The base model's evaluation, before the first step, is none: it says nothing of the trials.
    """
    known = {number: frames.scores_by_step(results, set_name, number) for number in trials}
    shared = set.intersection(*(set(steps) for steps in known.values())) - {0} if known else set()
    if not shared:
        return None
    return max(shared), {number: steps[max(shared)] for number, steps in known.items()}


def per_problem(first: SetScore, second: SetScore) -> pl.DataFrame:
    """Columns problem (from 1), first, second (solved of k) and difference (of the solved fractions)."""
    columns = {"problem": range(1, len(first.solved) + 1), "first": first.solved, "second": second.solved}
    gap = pl.col("first") / first.samples - pl.col("second") / second.samples
    return pl.DataFrame(columns).with_columns(gap.alias("difference"))
