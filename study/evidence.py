"""What is known of each configuration: its mean over fresh seeds, and the ranking by it."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from study.running import BY_HAND
from trainer.digits import decimal


class Number(Protocol):
    """How a fraction is written."""

    def __call__(self, fraction: float, *, signed: bool = False) -> str: ...


class SeedMean(NamedTuple):
    """A mean over training seeds."""

    seeds: int
    mean: float
    seed_error: float | None
    """Standard error of the mean; None for fewer than two seeds."""

    @classmethod
    def of(cls, runs: Mapping[int, float]) -> SeedMean:
        """Of one or more `runs`, a number by training seed."""
        error = standard_error(list(runs.values())) if len(runs) > 1 else None
        return cls(len(runs), statistics.fmean(runs.values()), error)

    def __str__(self) -> str:
        """``0.300 ±0.013``; of one seed the mean alone."""
        return decimal(self.mean) + (f" {error_in_words(self.seed_error)}" if self.seed_error is not None else "")


@dataclass(frozen=True)
class Evidence:
    """What is known of one configuration: the metric of its completed runs, one seed each."""

    number: int
    """The trial that was sampled."""
    first: float
    """Its metric. Where there are fresh runs it is left out of the mean: it was chosen for being high."""
    fresh: Mapping[int, float] = field(default_factory=dict)
    """The metric of the trials that confirm it, by training seed."""
    lost: tuple[str, ...] = ()
    """How each trial that confirms it ended that has no metric, for example ``collapsed``."""

    @property
    def mean(self) -> float:
        """Mean over fresh seeds, or the first run alone."""
        return SeedMean.of(self.fresh).mean if self.fresh else self.first

    @property
    def seed_error(self) -> float | None:
        """Standard error of the mean over fresh seeds; None for fewer than two."""
        return SeedMean.of(self.fresh).seed_error if self.fresh else None

    @property
    def tested(self) -> bool:
        """Whether it is ranked by fresh seeds: one has ended or was lost."""
        return bool(self.fresh or self.lost)

    @property
    def seeds(self) -> str:
        """What the mean is over: ``1 fresh seed``, ``3 fresh seeds``, or ``2 of 3 fresh seeds (1 collapsed)``."""
        if not self.lost:
            return f"{len(self.fresh)} fresh seed{'s' if len(self.fresh) > 1 else ''}"
        lost = ", ".join(f"{count} {how}" for how, count in sorted(Counter(self.lost).items()))
        return f"{len(self.fresh)} of {len(self.fresh) + len(self.lost)} fresh seeds ({lost})"

    @property
    def worth(self) -> float:
        """What it is ranked by: its mean, in which a seed that collapsed or failed counts 0.

        The mean of those that survived is not that of all. One that was stopped by hand says nothing.
        """
        runs = [*self.fresh.values(), *(0.0 for how in self.lost if how != BY_HAND)]
        return statistics.fmean(runs) if runs else self.first


class Run(NamedTuple):
    """A trial that has ended, as far as its configuration is concerned."""

    number: int
    value: float | None
    """Its metric; None unless COMPLETE."""
    confirms: int | None
    """The trial that it confirms."""
    seed: int
    """Of its training."""
    lost: str
    """How it ended without a metric."""
    length: float = 0.0
    """What the study minimizes beside the metric, in tokens: of equals the shorter comes first. 0 where nothing."""


def firsts(settings: Iterable[tuple[int, Mapping[str, Any], Mapping[str, Any]]]) -> dict[int, int]:
    """For each trial the first that has the same settings, often itself. A sampler may draw a choice again; such a
    trial has the same seed too, and is the same run once more.

    Args:
        settings: of each trial its number, its values by key of the space, and those beside it; controls first.
    """
    found, same = dict[str, int](), dict[int, int]()
    for number, params, beside in settings:
        same[number] = found.setdefault(json.dumps([params, beside], sort_keys=True), number)
    return same


def evidence(runs: Iterable[Run]) -> list[Evidence]:
    """Every completed configuration with its confirmations, the best first, by `Evidence.worth`.

    A single run that was not chosen to be confirmed may be higher than the mean of one that was, by luck alone: they
    were compared by a single run each. So a configuration that was confirmed, and lost no seed, comes before all that
    had no better first run than it, in the order of its fresh seeds. That leaves a control, which is confirmed whatever
    its rank, where it belongs: among those if its fresh seeds are as high as theirs, else by its mean among the others.
    """
    found, lengths = [], dict[int, float]()
    fresh, lost = defaultdict[int, dict[int, float]](dict), defaultdict[int, list[str]](list)
    for run in runs:
        if run.confirms is None:
            if run.value is not None:
                found.append((run.number, run.value))
                lengths[run.number] = run.length
        elif run.value is None:
            lost[run.confirms].append(run.lost)
        else:
            fresh[run.confirms][run.seed] = run.value
    known = [Evidence(number, value, fresh[number], tuple(lost[number])) for number, value in found]
    bar = max((each.first for each in known if not each.tested), default=-math.inf)

    confirmed = [each for each in known if each.fresh and all(how == BY_HAND for how in each.lost)]
    least = min((each.worth for each in confirmed if each.first >= bar), default=math.inf)
    ahead = {each.number for each in confirmed if each.first >= bar or each.worth >= least}
    return sorted(known, key=lambda each: (each.number not in ahead, -each.worth, lengths[each.number], each.number))


def highest_of(found: Sequence[Evidence]) -> int:
    """Of how many means over fresh seeds that of the first of `found` is the highest, so that a little of it is luck
    again; 0 where it has none, or not a higher one than all others: rank goes by lost seeds too."""
    means = [each.mean for each in found if each.fresh]
    if len(means) < 2 or not found[0].fresh or means[0] <= max(means[1:]):
        return 0
    return len(means)


def error_in_words(error: float, number: Number = decimal) -> str:
    """A standard error over seeds: ±0.013 or ±<0.001; words for 0, which is no evidence that seeds do nothing."""
    if error == 0:
        return "(all the same)"
    shown = number(error)
    return f"±{shown}" if float(shown) else f"±<{shown[:-1]}1"


def standard_error(runs: Sequence[float]) -> float:
    """Of the mean of two or more `runs`."""
    return statistics.stdev(runs) / len(runs) ** 0.5
