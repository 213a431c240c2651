"""What a configuration's seeds say: its mean over fresh ones, and whether configurations differ beyond them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Number(Protocol):
    """How a fraction is written."""

    def __call__(self, fraction: float, *, signed: bool = False) -> str: ...


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
        return _standard_error(self.fresh) if len(self.fresh) > 1 else None


def evidence(runs: Iterable[tuple[int, float, int | None]]) -> list[Evidence]:
    """Every configuration with its confirmations, the best mean first; confirmed ones before all others.

    Args:
        runs: trial number, metric, and the number of the trial that it confirms or None, of each completed trial.
    """
    found, fresh = [], defaultdict(list)
    for number, value, confirms in runs:
        if confirms is None:
            found.append((number, value))
        else:
            fresh[confirms].append(value)
    each_with_all = [Evidence(number, value, tuple(fresh[number])) for number, value in found]
    return sorted(each_with_all, key=lambda each: (not each.fresh, -each.mean, each.number))


def seeds_against_settings(found: Sequence[Evidence]) -> str | None:
    """Whether confirmed configurations differ by more than their seeds do, in one sentence; None without two of them.

    One-way analysis of variance over the fresh runs of each configuration.
    """
    groups = [each.fresh for each in found if len(each.fresh) > 1]
    if len(groups) < 2:
        return None
    from scipy.stats import f_oneway

    within = sum(statistics.variance(each) * (len(each) - 1) for each in groups) / sum(len(each) - 1 for each in groups)
    if within == 0:
        return (
            "seeds of one configuration do not differ at all; with so few responses this says nothing of the"
            " differences between configurations"
        )
    spread = f"seeds of one configuration differ by {error_in_words(within**0.5).lstrip('±')} (standard deviation)"
    test = f_oneway(*groups)
    first, last = len(groups) - 1, sum(map(len, groups)) - len(groups)
    verdict = "differ" if test.pvalue < 0.05 else "do not differ"
    return (
        f"{len(groups)} confirmed configurations {verdict} beyond the noise of the seed: {spread},"
        f" F({first}, {last}) = {test.statistic:.2f}, p {'< 0.01' if test.pvalue < 0.01 else f'= {test.pvalue:.2f}'}"
    )


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Difference of the means of two runs or more each, and its standard error.

    The variances of the two need not be equal (Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28).
    """
    gap = statistics.fmean(first) - statistics.fmean(second)
    return gap, (_standard_error(first) ** 2 + _standard_error(second) ** 2) ** 0.5


def fraction(fraction: float, *, signed: bool = False) -> str:
    """Three digits: 0.013, +0.013."""
    return f"{fraction:+.3f}" if signed else f"{fraction:.3f}"


def error_in_words(error: float, number: Number = fraction) -> str:
    """A standard error over seeds: ±0.013 or ±<0.001; words for 0, which is no evidence that seeds do nothing."""
    if error == 0:
        return "(all the same)"
    shown = number(error)
    return f"±{shown}" if float(shown) else f"±<{shown[:-1]}1"


def _standard_error(runs: Sequence[float]) -> float:
    return statistics.stdev(runs) / len(runs) ** 0.5
