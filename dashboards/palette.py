"""Colours that survive colour blindness and both themes.

Sequential: viridis without the end that vanishes on the background. Categorical: Okabe and Ito, "Color Universal
Design" (https://jfly.uni-koeln.de/color/). States differ by shape as well, never by colour alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from plotly.colors import sample_colorscale

CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#999999")
STATE_COLOURS = {
    "COMPLETE": "#0072B2", "RUNNING": "#009E73", "PRUNED": "#E69F00", "FAIL": "#D55E00", "WAITING": "#999999",
    "STOPPED": "#CC79A7",
}  # fmt: skip
STATE_SYMBOLS = {
    "COMPLETE": "circle", "RUNNING": "triangle-up", "PRUNED": "x", "FAIL": "diamond-x", "WAITING": "circle-open",
    "STOPPED": "square",
}  # fmt: skip
NEUTRAL = "#808495"


def symbol(shape: str, *, hollow: bool) -> str:
    """The shape of a point, hollow where its evaluation had fewer responses than planned."""
    return f"{shape}-open" if hollow and not shape.endswith("-open") else shape


CONTROL_DASHES = ("dot", "dashdot", "longdashdot")
"""Controls have one colour; how each is dotted tells them apart."""


def control_dashes(controls: Iterable[int]) -> dict[int, str]:
    """How the line of each of these trials, the controls on a chart, is drawn."""
    return {trial: CONTROL_DASHES[i % len(CONTROL_DASHES)] for i, trial in enumerate(sorted(set(controls)))}


def by_trial(controls: Mapping[int, str | None], dark: bool) -> dict[int, str]:
    """A colour for each trial (number to label of a control): controls in the colour of text, the others by number."""
    sampled = [trial for trial, control in sorted(controls.items()) if control is None]
    colours = {trial: CATEGORIES[i % len(CATEGORIES)] for i, trial in enumerate(sampled)}
    return {trial: colours.get(trial, foreground(dark)) for trial in controls}


def foreground(dark: bool) -> str:
    """The text colour of the theme, for what must stand out from every sampled colour."""
    return "#FAFAFA" if dark else "#262730"


def background(dark: bool) -> str:
    """Behind a name that stands on top of curves."""
    return "rgba(23,23,20,0.75)" if dark else "rgba(255,255,255,0.8)"


@functools.cache
def sequential(dark: bool) -> list[str]:
    """Eleven steps of viridis that all keep a contrast to the background of the theme."""
    low, high = (0.25, 1.0) if dark else (0.0, 0.88)
    return sample_colorscale("Viridis", [low + (high - low) * i / 10 for i in range(11)])


@functools.cache
def _shade(level: int, dark: bool) -> str:
    """Level 0..255 of `sequential`: Plotly takes a millisecond for one, too long for a thousand trials."""
    return sample_colorscale(sequential(dark), [level / 255])[0]


def shade(share: float, dark: bool) -> str:
    """The colour that lies at `share` (0..1) of `sequential`."""
    return _shade(round(255 * min(max(share, 0.0), 1.0)), dark)


MOST_TICKS = 10
"""Numbers beside a bar that do not run into each other."""


@dataclass(frozen=True)
class Scale:
    """Maps one parameter's values to colours and to a colour bar."""

    values: tuple[float, ...]
    dark: bool

    @functools.cached_property
    def log(self) -> bool:
        """Values over more than a decade are spread by their logarithm."""
        return min(self.values) > 0 and max(self.values) / min(self.values) > 10

    def position(self, value: float) -> float:
        """Where `value` lies on the bar: its logarithm when `log`, else itself."""
        return math.log10(value) if self.log else value

    @functools.cached_property
    def bounds(self) -> tuple[float, float]:
        """Positions of the smallest and the largest value."""
        return self.position(min(self.values)), self.position(max(self.values))

    def colour(self, value: float) -> str:
        """An rgb() colour."""
        low, high = self.bounds
        share = 0.5 if high == low else (self.position(value) - low) / (high - low)
        return shade(share, self.dark)

    @property
    def ticks(self) -> list[float]:
        """Values to write beside the bar, in parameter units: 1-2-5 steps when `log`, else even ones from end to end.

        Where 1-2-5 steps would be more than `MOST_TICKS`: powers of ten, at most so many.
        """
        low, high = min(self.values), max(self.values)
        if not self.log:
            return [low + (high - low) * i / 4 for i in range(5)]
        decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        ticks = [tick for decade in decades for m in (1, 2, 5) if low <= (tick := m * 10.0**decade) <= high]
        if len(ticks) <= MOST_TICKS:
            return ticks
        powers = [tick for decade in decades if low <= (tick := 10.0**decade) <= high]
        return powers[:: math.ceil(len(powers) / MOST_TICKS)]


LEAST_SPAN = 0.1


def least_span(low: float, high: float) -> tuple[float, float]:
    """Both ends of an axis of accuracy, at least `LEAST_SPAN` apart and within 0..1."""
    if high - low >= LEAST_SPAN:
        return low, high
    low = min(max((low + high - LEAST_SPAN) / 2, 0.0), 1 - LEAST_SPAN)
    return low, low + LEAST_SPAN


def span(values: pl.Series) -> tuple[float, float]:
    """What a colour scale of scores runs over: to the best, from the worst that is no outlier (Tukey's fence below, or
    `LEAST_SPAN` below the best where that is lower: many ties put the fence at themselves).

    One collapsed trial would otherwise leave all others in one colour. Equal scores get `LEAST_SPAN`.
    """
    low, high = float(values.min() or 0.0), float(values.max() or 0.0)
    first, third = values.quantile(0.25, "linear") or 0.0, values.quantile(0.75, "linear") or 0.0
    low = max(low, min(first - 1.5 * (third - first), high - LEAST_SPAN))
    return (low, high) if high > low else least_span(low, high)


def scale(values: Sequence[float | None], dark: bool) -> Scale | None:
    """A scale over the finite values, or None when there are none."""
    known = tuple(value for value in values if value is not None and math.isfinite(value))
    return Scale(known, dark) if known else None
