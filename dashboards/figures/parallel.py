"""Parallel coordinates of a study: one line per trial through all its values, coloured by its score. Drawn as SVG."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text
from dashboards.figures.axes import digits
from dashboards.figures.parameters import MARGIN, hover

MOST = 150
"""Lines that an eye still follows."""
LEVELS = 24
"""Shades of the score: trials of one shade are one trace, or a thousand trials would be a thousand."""


def thinned(scores: pl.DataFrame) -> pl.DataFrame:
    """At most `MOST` of the trials of `scores.at_step`, from the best to the worst at even distances."""
    if scores.height <= MOST:
        return scores
    return scores[[round(i * (scores.height - 1) / (MOST - 1)) for i in range(MOST)]]


def parallel_coordinates(scores: pl.DataFrame, keys: list[str], *, measure: str, dark: bool = False) -> go.Figure:
    """One axis for each of `keys` and one for the score of `scores.at_step`; the best trials are drawn on top.

    A trial without one of the values has a gap there.
    """
    axes = [_Axis(scores[key]) for key in keys] + [_Axis(scores["score"], percent=True)]
    columns = [*keys, "score"]
    figure = go.Figure()
    low, high = palette.span(scores["score"])
    share = ((pl.col("score") - low) / ((high - low) or 1.0)).clip(0, 1)
    shades = scores.with_columns((share * (LEVELS - 1)).round().alias("shade"))
    texts = dict(zip(scores["trial"], hover(scores), strict=True))
    for (level,), own in shades.sort("shade", "score").group_by("shade", maintain_order=True):
        x: list[float | None] = []
        y: list[float | None] = []
        said: list[str] = []
        for row in own.iter_rows(named=True):
            x += [*range(len(columns)), None]
            y += [*(axis.position(row[key]) for axis, key in zip(axes, columns, strict=True)), None]
            said += [texts[row["trial"]]] * (len(columns) + 1)
        colour = palette.shade(float(level) / (LEVELS - 1), dark)
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="lines+markers", line={"color": colour, "width": 1.6},
                       marker={"color": colour, "size": 5}, opacity=0.8, text=said, showlegend=False,
                       hovertemplate="%{text}<extra></extra>")
        )  # fmt: skip
    _draw_axes(figure, axes, dark)
    heads = [text.in_plotly(text.label(key)).replace(" (", "<br>(") for key in keys]
    heads.append(text.in_plotly(measure).replace("/", "<br>"))
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=[f"<b>{head}</b>" for head in heads], side="top",
                        range=[-0.25, len(columns) - 0.6], showgrid=False, zeroline=False)  # fmt: skip
    figure.update_yaxes(visible=False, range=[-0.06, 1.06])
    figure.update_layout(height=420, margin=MARGIN | {"t": 60}, uirevision="keep", hovermode="closest")
    return figure


def _draw_axes(figure: go.Figure, axes: list[_Axis], dark: bool) -> None:
    for place, axis in enumerate(axes):
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, layer="below",
                         line={"color": palette.NEUTRAL, "width": 1})  # fmt: skip
        for position, name in axis.ticks():
            figure.add_annotation(x=place, y=position, text=text.in_plotly(name), showarrow=False, xanchor="left",
                                  xshift=4, font={"size": 11, "color": palette.foreground(dark)},
                                  bgcolor=palette.background(dark), borderpad=1)  # fmt: skip


class _Axis:
    """Where the values of one column lie between 0 and 1: by place of a name, by logarithm over more than a decade.

    `percent`: a fraction, which is never spread by its logarithm.
    """

    def __init__(self, values: pl.Series, *, percent: bool = False) -> None:
        self.percent = percent
        self.scale = palette.scale(values.to_list(), dark=False) if values.dtype.is_numeric() else None
        self.names = [] if values.dtype.is_numeric() else text.in_order(values.drop_nulls())

    def position(self, value: float | str | None) -> float | None:
        """0..1, or None for a value that is missing."""
        if value is None:
            return None
        if self.scale is None:
            return self.names.index(str(value)) / max(len(self.names) - 1, 1)
        low, high = (self.spread(each) for each in (min(self.scale.values), max(self.scale.values)))
        return 0.5 if high == low else (self.spread(float(value)) - low) / (high - low)

    def spread(self, value: float) -> float:
        """The value, or its logarithm."""
        return value if self.percent or self.scale is None else self.scale.position(value)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and names of the values to write beside the axis."""
        if self.scale is None:
            return [(float(self.position(name) or 0.0), name) for name in self.names]
        low, high = min(self.scale.values), max(self.scale.values)
        log = self.scale.log and not self.percent
        inner = self.scale.ticks if log else [low + (high - low) * share for share in (0.25, 0.5, 0.75)]
        known, percent = sorted({low, high, *inner}), digits(low, high)
        kept: list[tuple[float, str]] = []
        for value in [low, high, *known[1:-1]]:
            place = float(self.position(value) or 0.0)
            if all(math.fabs(place - other) > 0.08 for other, _ in kept):
                kept.append((place, format(value, percent) if self.percent else text.number(value)))
        return kept
