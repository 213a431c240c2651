"""Which trials a reader wants to see: by state and by ranges of the sampled parameters. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from study.spec import Distribution

STOPS = 11
"""Places of a range's slider."""

Bounds = Mapping[str, tuple[float, float]]


def stops(space: Distribution) -> list[float]:
    """Where the slider of a numeric parameter stops: both ends and even steps (of the logarithm) between; else none."""
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None:
        return []
    if space.type == "int":
        values = range(int(low), int(high) + 1, space.step)
        every = max(1, -(-len(values) // STOPS))
        return sorted({*map(float, values[::every]), float(high)})
    shares = [i / (STOPS - 1) for i in range(STOPS)]
    if space.type == "log-uniform":
        even = [low * (high / low) ** share for share in shares]
    else:
        even = [low + (high - low) * share for share in shares]
    inner = [_rounded(value, even[i + 1] - value) for i, value in enumerate(even[:-1])][1:]
    return [low, *inner, high]


def kept(trials: pl.DataFrame, *, states: Sequence[str] = (), bounds: Bounds | None = None) -> list[int]:
    """Numbers of the trials in one of `states` (none: any) and, controls apart, within all `bounds` (both included).

    A control is what the others are compared with, so no range of values removes it. A trial without the parameter is
    in no range.
    """
    if states:
        trials = trials.filter(pl.col("state").is_in(list(states)))
    inside = pl.lit(True)
    for key, (low, high) in (bounds or {}).items():
        inside = inside & pl.col(key).is_between(low, high).fill_null(False)
    return trials.filter(inside | pl.col("control").is_not_null())["trial"].to_list()


def _rounded(value: float, gap: float) -> float:
    """As few digits as still tell the value from one that lies `gap` beside it: they stand in the address."""
    return round(value, 1 - math.floor(math.log10(gap)))
