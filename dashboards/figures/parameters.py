"""What single parameters do to the score at one training step, and how much each explains."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text
from dashboards.figures import axes
from dashboards.importance import CHANCE

MARGIN = {"l": 10, "r": 10, "t": 10, "b": 10}
MOST_BARS = 150
"""Trials up to which each has its error bar; beyond, bars would be all that one sees."""
MOST_TICKS = 4
"""On a narrow axis, where more would be turned upright or run into each other."""
PALE = 0.35
"""Opacity of bars that are no finding."""
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def slice_of(scores: pl.DataFrame, key: str, *, measure: str, dark: bool = False) -> go.Figure:
    """One parameter against the score of `scores.at_step`, ± sampling error; shapes tell how each trial ended.

    Args:
        measure: what the score is called, for the axis.
    """
    figure = go.Figure()
    known = scores.drop_nulls([key])
    with_bars = known["error"].drop_nulls().len() and known.height <= MOST_BARS
    for state in palette.STATE_SYMBOLS:
        for is_control in (False, True):
            own = known.filter((pl.col("state") == state) & (pl.col("of_control").is_not_null() == is_control))
            if own.is_empty():
                continue
            shade = palette.foreground(dark) if is_control else palette.STATE_COLOURS[state]
            bars = {"type": "data", "array": own["error"], "thickness": 1, "width": 0, "color": shade}
            figure.add_trace(
                go.Scatter(x=own[key], y=own["score"], error_y=bars if with_bars else None,
                           mode="markers", name="control" if is_control else state.lower(), opacity=0.85,
                           marker={"symbol": palette.STATE_SYMBOLS[state], "size": 9, "color": shade},
                           text=hover(own), hovertemplate="%{text}<extra></extra>")
            )  # fmt: skip
    value_axis(figure.layout.xaxis, known, key)
    figure.update_yaxes(title_text=measure, **axes.accuracy(known["score"]))
    figure.update_layout(height=280, margin=MARGIN, uirevision="keep", showlegend=False)
    return figure


def importances(importance: pl.DataFrame, *, pale: bool = False) -> go.Figure:
    """Bars of `importance.importance`, the largest on top, one colour per method; what chance explains comes last.

    Args:
        pale: that the bars are no finding.
    """
    mean = importance.group_by("parameter").agg(pl.col("importance").mean())
    mean = mean.sort(pl.col("parameter") != CHANCE, "importance")
    order = [_name(key) for key in mean["parameter"]]
    figure = go.Figure()
    for index, (method,) in enumerate(importance.select("method").unique(maintain_order=True).rows()):
        own = importance.filter(pl.col("method") == method)
        hover = f"%{{y}}<br>{method} %{{x:.0%}}<extra></extra>"
        figure.add_trace(
            go.Bar(y=[_name(key) for key in own["parameter"]], x=own["importance"], orientation="h", name=method,
                   opacity=PALE if pale else 1.0,
                   marker={"color": palette.CATEGORIES[index], "pattern": {"shape": ("", "/")[index % 2]}},
                   hovertemplate=hover)
        )  # fmt: skip
    figure.update_layout(
        height=110 + 46 * len(order), margin=MARGIN, legend=LEGEND | {"traceorder": "normal"}, barmode="group",
        xaxis={"title": "share of the differences explained", "tickformat": ".0%", "rangemode": "tozero"},
        yaxis={"categoryorder": "array", "categoryarray": order},
    )  # fmt: skip
    return figure


def _name(key: str) -> str:
    return text.in_plotly(key if key == CHANCE else text.label(key))


def hover(scores: pl.DataFrame) -> list[str]:
    """Per trial of `scores.at_step`: name, how it ended, score ± error, and every parameter."""
    keys = [name for name in scores.columns if "." in name]
    return [
        f"<b>{text.in_plotly(row['label'])}</b> {row['state'].lower()}<br>"
        + text.accuracy(row["score"], row["error"], problems=row["problems"], samples=row["samples"])
        + "".join(f"<br>{text.in_plotly(text.label(key))} {text.in_plotly(text.number(row[key]))}" for key in keys)
        for row in scores.iter_rows(named=True)
    ]


def value_axis(axis: go.layout.XAxis | go.layout.YAxis, known: pl.DataFrame, key: str, *, gamma: bool = False) -> None:
    """Title and ticks for a parameter; logarithmic over more than a decade; with `gamma` a half-life says its gamma.

    Few values that trials share are a choice: these and none between them are the ticks. Where one is no number, as
    null, all are names.
    """
    axis.update(title=text.in_plotly(text.label(key)), zeroline=False, exponentformat="e")
    if not known[key].dtype.is_numeric():
        # Plotly takes the names that look like numbers for such, and drops the others.
        axis.update(type="category", categoryorder="array", categoryarray=text.in_order(known[key]))
        return
    scale = palette.scale(known[key].to_list(), dark=False)
    if scale is None:
        return
    ticks = sorted(set(scale.values))
    chosen = len(ticks) <= MOST_TICKS and len(ticks) < len(scale.values)
    if not chosen:
        if not scale.log:
            return
        ticks = scale.ticks if len(scale.ticks) <= MOST_TICKS else scale.ticks[::2]
    names = [text.number(tick) for tick in ticks]
    if gamma and key == "fipo.half_life":
        names = [f"{name}<br>γ {2 ** (-1 / tick):.3g}" for name, tick in zip(names, ticks, strict=True)]
    angle = None if chosen else 0  # chosen values may lie close together; Plotly then turns their names
    axis.update(type="log" if scale.log else "linear", tickvals=ticks, ticktext=names, tickangle=angle)
