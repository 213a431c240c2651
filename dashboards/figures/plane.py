"""The score over the plane of two parameters: a heat map with contours, its uncertainty, and the trials on it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text
from dashboards.figures.axes import digits
from dashboards.figures.parameters import LEGEND, MARGIN, hover, value_axis
from dashboards.surface import Surface

HEIGHT = 440
APART, FARTHEST = 0.025, 0.08
"""Of an axis: how far from their spot points stand that share it, few and many of them. On one another only the last
would be seen."""


def estimate(
    scores: pl.DataFrame, x: str, y: str, *, measure: str, surface: Surface | None, dark: bool = False
) -> go.Figure:
    """The trials of `scores.at_step`, coloured by their score, on the map of `surface` where there is one."""
    known = scores.drop_nulls([x, y])
    turn, of = pl.int_range(pl.len()).over([x, y]), pl.len().over([x, y])
    angle, away = 2 * math.pi * turn / of, pl.when(of > 1).then((APART * of / 6).clip(APART, FARTHEST)).otherwise(0.0)
    aside = known.select(across=away * angle.cos(), up=away * angle.sin())
    known = known.with_columns(_moved(known[key], aside[name]).alias(name) for key, name in ((x, "across"), (y, "up")))
    low, high = palette.span(known["score"])
    bar = _bar(measure, digits(low, high)) | _ends(known["score"], low, high)
    colours = {"colorscale": palette.sequential(dark), "cmin": low, "cmax": high}
    figure = go.Figure()
    if surface is not None:
        shades = {"colorscale": palette.sequential(dark), "zmin": low, "zmax": high, "colorbar": bar}
        figure.add_trace(_contour(surface, surface.mean, digits(low, high), shades, "estimate %{z:.1%}", dark))
    for state in palette.STATE_SYMBOLS:
        own = known.filter(pl.col("state") == state)
        if own.is_empty():
            continue
        line = {"color": palette.foreground(dark), "width": 1}
        marker = {"color": own["score"], "symbol": palette.STATE_SYMBOLS[state], "size": 11, "line": line, **colours}
        if surface is None:
            marker |= {"showscale": True, "colorbar": bar}
        figure.add_trace(
            go.Scatter(x=own["across"], y=own["up"], mode="markers", marker=marker, name=state.lower(), text=hover(own),
                       hovertemplate="%{text}<extra></extra>")
        )  # fmt: skip
    return _laid_out(figure, known, x, y)


def uncertainty(scores: pl.DataFrame, x: str, y: str, *, surface: Surface, dark: bool = False) -> go.Figure:
    """One standard error of the map, in points of the score, and where the trials lie that it comes from."""
    known = scores.drop_nulls([x, y])
    figure = go.Figure()
    scale = ["#2b2b28", "#d98b3a"] if dark else ["#ffffff", "#b35900"]
    shades = {"colorscale": scale, "zmin": 0, "colorbar": _bar("± points", ".1f")}
    figure.add_trace(_contour(surface, 100 * surface.error, ".1f", shades, "± %{z:.1f} points", dark))
    figure.add_trace(
        go.Scatter(x=known[x], y=known[y], mode="markers", marker={"color": palette.foreground(dark), "size": 5},
                   showlegend=False, text=hover(known), hovertemplate="%{text}<extra></extra>")
    )  # fmt: skip
    return _laid_out(figure, known, x, y)


def _moved(values: pl.Series, by: pl.Series) -> pl.Series:
    """`values` as the axis spreads them, moved `by` shares of their span; of names their numbers in order."""
    if not values.dtype.is_numeric():
        order = text.in_order(values)
        values = pl.Series([order.index(value) for value in values])
    scale = palette.scale(values.to_list(), dark=False)
    if scale is None:
        return values
    places = values.log10() if scale.log else values
    places += by * ((places.max() - places.min()) or 1.0)
    return 10**places if scale.log else places


def _contour(
    surface: Surface, values: object, digits: str, shades: Mapping[str, object], hover: str, dark: bool
) -> go.Contour:
    foreground = palette.foreground(dark)
    return go.Contour(
        x=surface.x, y=surface.y, z=values, **shades, ncontours=9, connectgaps=False,
        contours={"coloring": "heatmap", "showlabels": True, "labelformat": digits,
                  "labelfont": {"size": 11, "color": foreground}},
        line={"width": 1, "color": foreground, "smoothing": 1.1}, opacity=0.85, hovertemplate=f"{hover}<extra></extra>",
    )  # fmt: skip


def _bar(title: str, digits: str) -> dict[str, object]:
    return {"title": {"text": text.in_plotly(title), "side": "right"}, "tickformat": digits, "thickness": 12,
            "outlinewidth": 0}  # fmt: skip


def _ends(scores: pl.Series, low: float, high: float) -> dict[str, object]:
    """Ticks of a bar whose lowest colour is also that of worse scores, which `palette.span` leaves out; else none."""
    if not (scores < low).any():
        return {}
    ticks = [low + (high - low) * i / 4 for i in range(5)]
    names = [format(tick, digits(low, high)) for tick in ticks]
    return {"tickvals": ticks, "ticktext": [f"≤ {names[0]}", *names[1:]]}


def _laid_out(figure: go.Figure, known: pl.DataFrame, x: str, y: str) -> go.Figure:
    for axis, key, gamma in ((figure.layout.xaxis, x, True), (figure.layout.yaxis, y, False)):
        value_axis(axis, known, key, gamma=gamma)
        if not known[key].dtype.is_numeric():  # between names no point could stand
            names = text.in_order(known[key])
            axis.update(type="linear", tickvals=[*range(len(names))], ticktext=[text.in_plotly(name) for name in names])
    figure.update_layout(height=HEIGHT, margin=MARGIN, uirevision="keep", legend=LEGEND)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    return figure
