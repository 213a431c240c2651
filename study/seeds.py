"""Whether configurations differ by more than their seeds do: all that are confirmed, or two."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from study.evidence import Evidence, Number, error_in_words, standard_error
from trainer.digits import decimal

_LEVEL = 0.05
"""Of the test: as often equal configurations are said to differ."""
_NOTHING = 1e-20
"""A square below this is the rounding of equal numbers."""


@dataclass(frozen=True)
class SeedTest:
    """Whether confirmed configurations differ by more than their seeds do."""

    settings: int
    """How many there are."""
    between: float
    """Sum of squares between them."""
    left: float
    """What is left beside them and the seeds."""
    uncorrected: tuple[int, int]
    """Degrees of freedom of the two, were the configurations' noises independent."""
    epsilon: float
    """By how much both shrink, since noises are not: see `_sphericity`."""

    @property
    def freedom(self) -> tuple[float, float]:
        """Degrees of freedom of the two."""
        first, last = self.uncorrected
        return self.epsilon * first, self.epsilon * last

    @property
    def measured(self) -> bool:
        """Whether anything is left that could be taken for noise."""
        return self.left >= _NOTHING

    @property
    def noise(self) -> float:
        """Standard deviation of a run beside its configuration and its seed."""
        return (self.left / self.uncorrected[1]) ** 0.5

    @property
    def statistic(self) -> float:
        """F; only where noise is `measured`."""
        return self.between / self.uncorrected[0] / self.noise**2

    @property
    def p(self) -> float:
        """Chance of so large an F among equals; only where noise is `measured`."""
        from scipy.stats import f

        return float(f.sf(self.statistic, *self.freedom))

    @property
    def alike(self) -> bool:
        """Whether noise is measured, and they do not differ beyond it."""
        return self.measured and self.p >= _LEVEL


def seed_test(found: Sequence[Evidence]) -> SeedTest | None:
    """Analysis of variance of confirmed configurations with the seed as a block; None without two of them.

    Over the seeds that all of them have: a seed moves every configuration alike (the same problems in the same order,
    the same draws), which is no noise of theirs. Configurations that do nearly the same with each seed are told apart
    no better by being many, so the degrees of freedom go by how many of them move by themselves.
    """
    runs = [each.fresh for each in found if len(each.fresh) > 1]
    shared = sorted(set.intersection(*(set(each) for each in runs))) if runs else []
    if len(runs) < 2 or len(shared) < 2:
        return None
    table = [[each[seed] for seed in shared] for each in runs]
    rows, columns = (
        [statistics.fmean(row) for row in table],
        [statistics.fmean(each) for each in zip(*table, strict=True)],
    )
    grand = statistics.fmean(rows)
    between = len(shared) * sum((row - grand) ** 2 for row in rows)
    noise = [
        [value - row - column + grand for column, value in zip(columns, values, strict=True)]
        for row, values in zip(rows, table, strict=True)
    ]
    left = sum(each**2 for row in noise for each in row)
    first = len(table) - 1
    return SeedTest(len(table), between, left, (first, first * (len(shared) - 1)), _sphericity(noise))


def _sphericity(noise: Sequence[Sequence[float]]) -> float:
    """Epsilon of Huynh and Feldt (1976): 1 where configurations scatter alike and independently, down to 1 over their
    number less one where only one contrast of them scatters. That bound too for two seeds, which tell nothing of it.

    Args:
        noise: a row for each configuration, a column for each seed, both centred.
    """
    contrasts, seeds = len(noise) - 1, len(noise[0])
    total = sum(each**2 for row in noise for each in row)
    if contrasts == 1 or total < _NOTHING:
        return 1.0
    lowest = 1 / contrasts
    if seeds == 2:
        return lowest
    products = [sum(x * y for x, y in zip(one, other, strict=True)) for one in noise for other in noise]
    greenhouse_geisser = total**2 / contrasts / sum(each**2 for each in products)
    free = seeds - 1 - contrasts * greenhouse_geisser
    if free <= 0:
        return 1.0
    return max(lowest, min(1.0, (seeds * contrasts * greenhouse_geisser - 2) / (contrasts * free)))


def seeds_against_settings(found: Sequence[Evidence], *, number: Number = decimal, unit: str = "") -> str | None:
    """What `seed_test` says, in one sentence; None without two confirmed configurations.

    Args:
        number: how a fraction is written.
        unit: what stands after it.
    """
    test = seed_test(found)
    if test is None:
        return None
    groups = test.settings
    if not test.measured:
        if test.between < _NOTHING:
            return f"{groups} confirmed configurations had the same metric with every seed: it tells none of them apart"
        return (
            f"differences between the {groups} confirmed configurations are the same with every seed; with so few"
            " responses this is no measure of their noise"
        )
    (first, last), verb = test.freedom, "do not differ" if test.alike else "differ"
    noise = error_in_words(test.noise, number).lstrip("±") + unit
    return (
        f"{groups} confirmed configurations {verb} beyond the noise of the seed:"
        f" beside what a seed does to all of them a run varies by {noise} (standard deviation),"
        f" F({first:.3g}, {last:.3g}) = {test.statistic:.2f}, {_chance(test.p)}"
        f"{'' if test.alike else _leading(found)}"
    )


def _leading(found: Sequence[Evidence]) -> str:
    """How many of the best do not differ among themselves: one bad control makes all of them "differ"."""
    best = sorted((each for each in found if len(each.fresh) > 1), key=lambda each: each.mean, reverse=True)
    for count in range(len(best) - 1, 1, -1):
        test = seed_test(best[:count])
        if test is not None and test.alike:
            return f"; the best {count} of them do not ({_chance(test.p)})"
        if test is not None and not test.measured and test.between < _NOTHING:
            return f"; the best {count} of them had the same metric with every seed"
    return ""


class SeedDifference(NamedTuple):
    """Of two configurations over the seeds that both have, paired, for a seed moves both alike."""

    mean: float
    error: float
    """Standard error of the mean; 0 where every seed tells the same, which is no evidence that seeds do nothing."""
    seeds: int

    @property
    def p(self) -> float:
        """Chance of so large a difference among equals, by Student's t; only where there is an error.

        Of two seeds three standard errors are little.
        """
        from scipy.special import stdtr

        return 2 * float(stdtr(self.seeds - 1, -abs(self.mean) / self.error))

    def in_words(self, where: str, *, number: Number = decimal, unit: str = "") -> str:
        """``+0.150 ±0.050 on sums/avg@8 (p = 0.20)``."""
        gap = number(self.mean, signed=True)
        if not self.error:
            return f"{gap}{unit} on {where} (the same with every seed)"
        return f"{gap} {error_in_words(self.error, number)}{unit} on {where} ({_chance(self.p)})"


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> SeedDifference | None:
    """How much higher the first is; None for fewer than two seeds in common.

    Args:
        first, second: metric by training seed.
    """
    gaps = [first[seed] - second[seed] for seed in first.keys() & second.keys()]
    if len(gaps) < 2:
        return None
    error = standard_error(gaps)
    return SeedDifference(statistics.fmean(gaps), error if error**2 > _NOTHING else 0.0, len(gaps))


def _chance(p: float) -> str:
    return "p < 0.01" if p < 0.01 else f"p = {p:.2f}"
