"""The confirmation stage: the best configurations again with other seeds, and what the seeds say of the differences."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.spec import Replicas

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from study.results import TrialResult

CONFIRMS = "confirms"
"""Trial user attribute: the number of the trial whose configuration this one trains with another seed."""


@dataclass(frozen=True)
class Confirmation:
    """A trial to enqueue."""

    params: dict[str, Any]
    attributes: dict[str, Any]


def confirmations(trials: Sequence[FrozenTrial], replicas: Replicas, *, seed: int) -> list[Confirmation]:
    """The confirming trials that are not there yet, best configuration first. Asked again, it adds nothing twice.

    Args:
        trials: all of the study, none of them running but confirmations.
        seed: the seed that the confirmed trials were trained with; theirs are the next ones.
    """
    there = {(each.user_attrs[CONFIRMS], each.user_attrs["fixed"]["seed"]) for each in trials if _confirms(each)}
    complete = [each for each in trials if each.state.name == "COMPLETE" and not _confirms(each)]
    best = sorted(complete, key=lambda each: (-each.values[0], each.number))[: replicas.top]
    return [
        Confirmation(
            dict(each.params),
            {CONFIRMS: each.number, "fixed": {**each.user_attrs.get("fixed", {}), "seed": seed + other}},
        )
        for each in best
        for other in range(1, replicas.seeds + 1)
        if (each.number, seed + other) not in there
    ]


@dataclass(frozen=True)
class Evidence:
    """What is known of one configuration: the metric of its completed runs, one seed each."""

    number: int
    """The trial that was sampled."""
    first: float
    """Its metric. Where there are fresh runs it is left out of the mean: it was chosen for being high."""
    fresh: tuple[float, ...] = ()
    """The metric of the trials that confirm it."""

    @property
    def mean(self) -> float:
        """Mean over fresh seeds, or the first run alone."""
        return sum(self.fresh) / len(self.fresh) if self.fresh else self.first

    @property
    def seed_error(self) -> float | None:
        """Standard error of the mean over fresh seeds; None for fewer than two."""
        count = len(self.fresh)
        if count < 2:
            return None
        return statistics.stdev(self.fresh) / count**0.5


def evidence(trials: Sequence[TrialResult]) -> list[Evidence]:
    """Every completed configuration with its confirmations, the best mean first; confirmed ones before all others."""
    complete = [trial for trial in trials if trial.state == "COMPLETE" and trial.value is not None]
    fresh: dict[int | None, list[float]] = defaultdict(list)
    for trial in complete:
        fresh[trial.confirms].append(trial.value)
    found = [
        Evidence(trial.number, trial.value, tuple(fresh[trial.number])) for trial in complete if trial.confirms is None
    ]
    return sorted(found, key=lambda each: (not each.fresh, -each.mean, each.number))


def seeds_against_settings(found: Sequence[Evidence]) -> str | None:
    """Whether confirmed configurations differ by more than their seeds do, in one sentence; None without two of them.

    One-way analysis of variance over the fresh runs of each configuration.
    """
    groups = [each.fresh for each in found if len(each.fresh) > 1]
    if len(groups) < 2:
        return None
    from scipy.stats import f_oneway

    within = sum(statistics.variance(each) * (len(each) - 1) for each in groups) / sum(len(each) - 1 for each in groups)
    spread = f"seeds of one configuration differ by {within**0.5:.3f} (standard deviation)"
    if within == 0:
        return f"{spread}; with so few responses this says nothing of the differences between configurations"
    test = f_oneway(*groups)
    first, last = len(groups) - 1, sum(map(len, groups)) - len(groups)
    verdict = "differ" if test.pvalue < 0.05 else "do not differ"
    return (
        f"{len(groups)} confirmed configurations {verdict} beyond the noise of the seed: {spread},"
        f" F({first}, {last}) = {test.statistic:.2f}, p {'< 0.01' if test.pvalue < 0.01 else f'= {test.pvalue:.2f}'}"
    )


def _confirms(trial: FrozenTrial) -> bool:
    return CONFIRMS in trial.user_attrs
