"""How the search went: each completed trial's value in the order of trials, and the best so far."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from dashboards import frames, palette, text
from dashboards.figures import axes


def history(trials: pl.DataFrame, *, metric: str, dark: bool = False) -> go.Figure:
    """Values of `frames.trials` by trial number; a stair is the best of all sampled so far.

    Args:
        metric: what the value is, for the axis title. Confirmations are no search and are left out.
    """
    found = trials.filter(frames.SEARCH).drop_nulls("value").sort("trial")
    figure = go.Figure()
    stair = {"color": palette.foreground(dark), "width": 1.5, "shape": "hv"}
    figure.add_trace(
        go.Scatter(x=found["trial"], y=found["value"].cum_max(), mode="lines", line=stair, name="best so far",
                   hovertemplate="best up to trial %{x}: %{y:.1%}<extra></extra>")
    )  # fmt: skip
    control, enqueued = (pl.col(column).is_not_null() for column in ("control", "enqueued"))
    complete = palette.STATE_COLOURS["COMPLETE"]
    for name, own, shade, symbol in (
        ("complete", found.filter(~control & ~enqueued), complete, "circle"),
        ("enqueued", found.filter(enqueued), complete, "diamond"),
        ("control", found.filter(control), palette.foreground(dark), "diamond"),
    ):
        if own.is_empty():
            continue
        figure.add_trace(
            go.Scatter(x=own["trial"], y=own["value"], mode="markers", name=name,
                       marker={"color": shade, "symbol": symbol, "size": 8},
                       text=[text.in_plotly(label) for label in own["label"]],
                       hovertemplate="%{text}: %{y:.1%}<extra></extra>")
        )  # fmt: skip
    figure.update_layout(
        height=280,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "trial, in the order of sampling", "zeroline": False, **_whole_numbers(found["trial"])},
        yaxis={"title": text.in_plotly(metric), **axes.accuracy(found["value"])},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        uirevision="keep",
    )
    return figure


def _whole_numbers(numbers: pl.Series) -> dict[str, int]:
    """Few trials would get ticks between them."""
    return {"dtick": 1} if (numbers.max() or 0) < 10 else {}  # type: ignore[operator]
