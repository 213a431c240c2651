"""What single parameters, and pairs of them, do to the final accuracy."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from dashboards import palette, text

SHOWN = ("PRUNED", "RUNNING", "COMPLETE")  # drawn in this order, complete trials on top


def slices(summary: pl.DataFrame, parameters: list[str], *, dark: bool = False) -> go.Figure:
    """One panel per parameter: its value against the newest accuracy of `frames.summary`, ± sampling error.

    Pruned trials stand where they were stopped, faint: their accuracy is that of fewer steps.
    """
    figure = make_subplots(rows=1, cols=len(parameters), shared_yaxes=True, horizontal_spacing=0.02)
    for column, key in enumerate(parameters, start=1):
        known = summary.drop_nulls([key, "accuracy"])
        for state in SHOWN:
            for is_control in (False, True):
                own = known.filter((pl.col("state") == state) & (pl.col("control").is_not_null() == is_control))
                if own.is_empty():
                    continue
                shade = palette.foreground(dark) if is_control else palette.STATE_COLOURS[state]
                bars = {"type": "data", "array": own["sampling_error"], "thickness": 1, "width": 0, "color": shade}
                marker = {"symbol": palette.STATE_SYMBOLS[state], "size": 9, "color": shade}
                figure.add_trace(
                    go.Scatter(x=own[key], y=own["accuracy"], error_y=bars, mode="markers", marker=marker,
                               opacity=1.0 if state == "COMPLETE" else 0.4, showlegend=column == 1,
                               name="control" if is_control else state.lower(), legendgroup=f"{state}{is_control}",
                               text=[text.in_plotly(each) for each in own["label"]],
                               hovertemplate="%{text}<br>%{x:.3g}: %{y:.1%}<extra></extra>"),
                    row=1, col=column,
                )  # fmt: skip
        _value_axis(figure.layout[f"xaxis{column if column > 1 else ''}"], known, key)
    figure.update_yaxes(zeroline=False, tickformat=".0%")
    figure.update_yaxes(title_text="newest accuracy, avg@k", col=1)
    figure.update_layout(height=340, margin={"l": 10, "r": 10, "t": 10, "b": 10}, uirevision="keep", legend=_legend())
    return figure


def pair(summary: pl.DataFrame, x: str, y: str, *, dark: bool = False) -> go.Figure:
    """Two parameters' plane, coloured by the newest accuracy; shapes tell how each trial ended."""
    known = summary.filter(pl.col("state").is_in(SHOWN)).drop_nulls([x, y, "accuracy"])
    figure = go.Figure()
    bounds = {"cmin": known["accuracy"].min(), "cmax": known["accuracy"].max()} if known.height else {}
    bar = {
        "title": {"text": "newest accuracy, avg@k", "side": "right"},
        "tickformat": ".0%",
        "thickness": 14,
        "outlinewidth": 0,
    }
    for state in SHOWN:
        own = known.filter(pl.col("state") == state)
        if own.is_empty():
            continue
        marker = {"color": own["accuracy"], "colorscale": palette.sequential(dark), "size": 15, "opacity": 1.0,
                  "symbol": palette.STATE_SYMBOLS[state], "colorbar": bar, "showscale": True, **bounds}  # fmt: skip
        details = [
            f"{text.in_plotly(label)}<br>{text.accuracy(accuracy, error)} sampling error"
            for label, accuracy, error in own.select("label", "accuracy", "sampling_error").iter_rows()
        ]
        figure.add_trace(
            go.Scatter(x=own[x], y=own[y], mode="markers", marker=marker, name=state.lower(), text=details,
                       hovertemplate="%{text}<br>%{x:.3g}, %{y:.3g}<extra></extra>")
        )  # fmt: skip
    _value_axis(figure.layout.xaxis, known, x)
    _value_axis(figure.layout.yaxis, known, y)
    figure.update_layout(height=420, margin={"l": 10, "r": 10, "t": 10, "b": 10}, uirevision="keep", legend=_legend())
    return figure


def importances(importance: pl.DataFrame) -> go.Figure:
    """Bars of `importance.importance`, the largest on top, one colour per method."""
    order = importance.group_by("parameter").agg(pl.col("importance").mean()).sort("importance")["parameter"].to_list()
    figure = go.Figure()
    for index, (method,) in enumerate(importance.select("method").unique(maintain_order=True).rows()):
        own = importance.filter(pl.col("method") == method)
        names = [text.in_plotly(text.label(key)) for key in own["parameter"]]
        figure.add_trace(
            go.Bar(y=names, x=own["importance"], orientation="h", name=method, marker_color=palette.CATEGORIES[index])
        )
    figure.update_layout(
        height=120 + 50 * len(order),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "share of the differences explained", "tickformat": ".0%", "rangemode": "tozero"},
        yaxis={"categoryorder": "array", "categoryarray": [text.in_plotly(text.label(key)) for key in order]},
        legend=_legend(),
    )
    return figure


def _value_axis(axis: go.layout.XAxis | go.layout.YAxis, known: pl.DataFrame, key: str) -> None:
    axis.update(title=text.in_plotly(text.label(key)), zeroline=False)
    scale = palette.scale(known[key].to_list(), dark=False) if known[key].dtype.is_numeric() else None
    if scale and scale.log:
        axis.update(type="log", tickvals=scale.ticks, ticktext=[text.number(tick) for tick in scale.ticks])


def _legend() -> dict[str, object]:
    return {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
