"""Accuracy against response length, one curve per trial in step order: the paper's Figure 3(f) for a whole study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from dashboards import frames, palette, text
from dashboards.figures import axes
from dashboards.figures.pruning import HOLLOW, explain_hollow

POINT, END = 5, 11
MOST_BARS = 150
"""Points up to which each has an error bar; beyond, only the newest of a trial has, or bars would be all one sees."""


def length_accuracy(
    curves: pl.DataFrame,
    *,
    colour: str | None,
    ends: pl.DataFrame | None = None,
    length: str = "mean",
    error: str | None = "sampling",
    best: int | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw the points of `frames.curves`.

    Args:
        colour: dotted key whose values stand in the column `colour`; None colours by the trial's state.
        ends: points of the same kind to draw without a curve (see `thinning.thin`).
        length: a key of `frames.LENGTHS`, for the axis title.
        error: a key of `frames.ERRORS`, for the hover text.
        best: number of the trial to draw last and name.
        dark: whether the page's theme is dark.
    """
    figure = go.Figure()
    everything = curves if ends is None else pl.concat([curves, ends])
    every_bar = curves.height <= MOST_BARS
    numeric = curves["colour"].dtype.is_numeric()
    scale = palette.scale(everything["colour"].unique().to_list(), dark) if colour and numeric else None
    classes = [] if scale or not colour else _classes(everything)
    dashes = palette.control_dashes(everything.drop_nulls("control")["trial"])
    if ends is not None:
        _ends(figure, ends, colour, error, scale, classes, dark)
    groups = curves.partition_by("trial", maintain_order=True, as_dict=False)
    # Controls and the best trial are drawn last, on top.
    for points in sorted(groups, key=lambda p: (p["trial"][0] == best, p["control"][0] is not None)):
        row = points.row(0, named=True)
        named = row["trial"] == best or row["control"] is not None
        shade = _shade(row, colour, scale, classes, dark)
        ends_and_few = points.select("last", frames.FEW.alias("few")).rows()
        figure.add_trace(  # a dict, for Plotly checks a go.Scatter once more when it is added
            dict(
                type="scatter",
                x=points["length"],
                y=points["accuracy"],
                error_y=_bars(points, shade, every=every_bar),
                mode="lines+markers",
                line={"color": shade, "width": 3 if named else 1.8, "dash": _dash(row, dashes)},
                marker={
                    "color": shade,
                    "symbol": [
                        palette.symbol(palette.STATE_SYMBOLS[row["state"]] if last else "circle", hollow=few)
                        for last, few in ends_and_few
                    ],
                    "size": [END if last else HOLLOW if few else POINT for last, few in ends_and_few],
                    "line": {"width": 0},
                    "opacity": 1.0,
                },
                opacity=1.0 if named else (0.55 if row["state"] in ("PRUNED", "FAIL") else 0.9),
                name=text.in_plotly(row["label"]),
                meta=row["trial"],
                customdata=_hover_columns(points, colour, error),
                hovertemplate=_hover(colour),
                showlegend=False,
            )
        )
        if named:
            _tag(figure, points.row(-1, named=True), best, dark)
    _legend(figure, everything, classes, colour, dashes, dark)
    explain_hollow(figure, everything)
    if scale:
        _colour_bar(figure, scale, colour or "")
    samples = everything["samples"].unique()
    k = samples[0] if samples.len() == 1 else "k"
    figure.update_layout(
        xaxis={"title": f"{length} response length (tokens)", "rangemode": "normal", "zeroline": False},
        yaxis={"title": f"accuracy, avg@{k}", **axes.accuracy(everything["accuracy"])},
        # Above the name of a best trial at 100 %.
        legend={"orientation": "h", "y": 1.08, "yanchor": "bottom", "x": 0, "title": None, "itemclick": False,
                "itemdoubleclick": False},
        margin={"l": 10, "r": 10 if scale else 40, "t": 10, "b": 10},
        height=560,
        hovermode="closest",
        uirevision="keep",
    )  # fmt: skip
    return figure


def _classes(points: pl.DataFrame) -> list[str]:
    """Values of a colour that is no number, in the order in which their trials came; controls are not coloured."""
    return (
        points.filter(pl.col("of_control").is_null())
        .sort("trial")["colour"]
        .drop_nulls()
        .unique(maintain_order=True)
        .to_list()
    )


def _shade(row: dict[str, Any], colour: str | None, scale: palette.Scale | None, classes: list[str], dark: bool) -> str:
    if row["of_control"] is not None:
        return palette.foreground(dark)
    if colour is None:
        return palette.STATE_COLOURS[str(row["state"])]
    value = row["colour"]
    if value is None:
        return palette.NEUTRAL
    if scale:
        return scale.colour(float(value))
    return palette.CATEGORIES[classes.index(str(value)) % len(palette.CATEGORIES)]


def _dash(row: dict[str, Any], dashes: Mapping[int, str]) -> str:
    """What confirms a control is drawn as that is, where it is not on the chart as the first one."""
    return "solid" if row["of_control"] is None else dashes.get(row["of_control"], palette.CONTROL_DASHES[0])


def _tag(figure: go.Figure, end: dict[str, object], best: int | None, dark: bool) -> None:
    """Name the trial beside its newest point: the best above, controls below, so that the two don't collide."""
    name, is_best = str(end["control"] or f"#{end['trial']}"), end["trial"] == best
    figure.add_annotation(
        x=end["length"],
        y=end["accuracy"],
        text=f"<b>{text.in_plotly(name)}</b>" + (" best" if is_best else ""),
        ax=34,
        ay=-26 if is_best else 30,
        arrowwidth=1,
        arrowhead=0,
        standoff=6,
        arrowcolor=palette.foreground(dark),
        font={"color": palette.foreground(dark), "size": 13},
        bgcolor=palette.background(dark),
        opacity=0.9,
        borderpad=2,
    )


def _bars(points: pl.DataFrame, shade: str, *, every: bool) -> dict[str, object] | None:
    drawn = pl.lit(True) if every else pl.col("last")
    # One of 0 would be a bar without length: there is no error to be had, see `saturation`.
    errors = points.select(pl.when(drawn & (pl.col("error") > 0)).then("error"))["error"]
    if errors.null_count() == len(points):
        return None
    return {"type": "data", "array": errors, "thickness": 1, "width": 2, "color": shade}


def _ends(
    figure: go.Figure, ends: pl.DataFrame, colour: str | None, error: str | None, scale: palette.Scale | None,
    classes: list[str], dark: bool,
) -> None:  # fmt: skip
    """Faint single points, one trace for each state."""
    for own in ends.partition_by("state", maintain_order=True):
        marker = {"color": [_shade(row, colour, scale, classes, dark) for row in own.iter_rows(named=True)],
                  "symbol": [palette.symbol(palette.STATE_SYMBOLS[own["state"][0]], hollow=few)
                             for few in own.select(frames.FEW).to_series()], "size": 7, "opacity": 0.6}  # fmt: skip
        figure.add_trace(
            dict(type="scatter", x=own["length"], y=own["accuracy"], mode="markers", marker=marker, showlegend=False,
                 name="ends", customdata=_hover_columns(own, colour, error), hovertemplate=_hover(colour))
        )  # fmt: skip


def _accuracy(value: float, error: float | None, what: str | None, *, problems: int, samples: int) -> str:
    shown = text.accuracy(value, error, problems=problems, samples=1 if what == "across problems" else samples)
    return f"{shown} ({what} error)" if error else shown


def _hover_columns(points: pl.DataFrame, colour: str | None, what: str | None) -> np.ndarray:
    """Per point: trial number (what a click opens), then what the hover says. Plotly checks each cell of a list."""
    columns = ("trial", "label", "state", "colour", "step", "samples", "planned", "problems", "accuracy", "error")
    rows = points.select(columns).iter_rows()
    told = [
        (trial, text.in_plotly(label), state.lower(), text.in_plotly(text.number(value)) if colour else "", step,
         f"{k} responses, k = {k} of {planned}" if (planned or 0) > k else f"{k} responses", n,
         _accuracy(accuracy, error, what, problems=n, samples=k))
        for trial, label, state, value, step, k, planned, n, accuracy, error in rows
    ]  # fmt: skip
    return np.array(told, dtype=object)


def _hover(colour: str | None) -> str:
    setting = f"<br>{text.in_plotly(text.label(colour))} %{{customdata[3]}}" if colour not in (None, "label") else ""
    return (
        f"<b>%{{customdata[1]}}</b> %{{customdata[2]}}{setting}<br>step %{{customdata[4]}}"
        f"<br>%{{customdata[7]}}<br>%{{x:,.1f}} tokens<br>"
        "%{customdata[6]} problems × %{customdata[5]}<extra></extra>"
    )


def _legend(
    figure: go.Figure, curves: pl.DataFrame, classes: list[str], colour: str | None, dashes: Mapping[int, str],
    dark: bool,
) -> None:  # fmt: skip
    """Empty traces that explain the shapes (how each trial ended), the classes of colour and each control's dashes."""
    states = [state for state in palette.STATE_SYMBOLS if state in set(curves["state"].to_list())]
    for state in states:
        shade = palette.NEUTRAL if colour else palette.STATE_COLOURS[state]
        marker = {"symbol": palette.STATE_SYMBOLS[state], "size": END, "color": shade}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=state.lower(), marker=marker))
    whose = "" if colour in (None, "label") else f"{text.in_plotly(text.label(colour))} "  # a value says not of what
    for index, name in enumerate(classes):
        line = {"color": palette.CATEGORIES[index % len(palette.CATEGORIES)], "width": 3}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", name=f"{whose}{text.in_plotly(name)}", line=line))
    labels = dict(curves.select("trial", "control").iter_rows())
    for trial, dash in dashes.items():
        line = {"color": palette.foreground(dark), "width": 3, "dash": dash}
        name = f"control {text.in_plotly(labels[trial])}"
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", name=name, line=line))


def _colour_bar(figure: go.Figure, scale: palette.Scale, colour: str) -> None:
    low, high = scale.bounds
    marker = {
        "color": [low],
        "cmin": low,
        "cmax": high if high > low else low + 1,
        "colorscale": palette.sequential(scale.dark),
        "showscale": True,
        "size": 0.1,
        "colorbar": {
            "title": {"text": text.in_plotly(text.label(colour)), "side": "right"},
            "tickvals": [scale.position(tick) for tick in scale.ticks],
            "ticktext": [text.number(tick) for tick in scale.ticks],
            "thickness": 14,
            "outlinewidth": 0,
        },
    }
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, showlegend=False, hoverinfo="skip"))
