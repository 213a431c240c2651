"""What pruning saw and what it spared: accuracy over steps, and which trial ran when."""

from __future__ import annotations

from datetime import datetime

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text


def intermediate_values(curves: pl.DataFrame, *, ends: pl.DataFrame | None = None) -> go.Figure:
    """Accuracy of `frames.curves` over training steps; a pruned trial ends in a cross.

    `ends` are points of the same kind to draw without a curve (see `thinning.thin`).
    """
    figure = go.Figure()
    for own in ends.partition_by("state", maintain_order=True) if ends is not None else []:
        state = own["state"][0]
        marker = {"symbol": palette.STATE_SYMBOLS[state], "size": 7, "color": palette.STATE_COLOURS[state]}
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["accuracy"], mode="markers", marker=marker, opacity=0.5, showlegend=False,
                       text=[text.in_plotly(each) for each in own["label"]],
                       hovertemplate="%{text}, step %{x}: %{y:.1%}<extra></extra>")
        )  # fmt: skip
    named: set[str] = set()
    for own in curves.partition_by("trial", maintain_order=True):
        state = own["state"][0]
        shade = palette.STATE_COLOURS[state]
        marker = {"symbol": [palette.STATE_SYMBOLS[state] if last else "circle" for last in own["last"]],
                  "size": [10 if last else 4 for last in own["last"]], "opacity": 1.0, "color": shade}  # fmt: skip
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["accuracy"], mode="lines+markers", line={"color": shade, "width": 1.5},
                       marker=marker, opacity=0.75, name=state.lower(), legendgroup=state,
                       showlegend=state not in named, meta=own["trial"][0],
                       hovertemplate=f"{text.in_plotly(own['label'][0])}, step %{{x}}: %{{y:.1%}}<extra></extra>")
        )  # fmt: skip
        named.add(state)
    figure.update_layout(
        height=420,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "training step", "zeroline": False},
        yaxis={"title": "accuracy, avg@k", "tickformat": ".0%", "zeroline": False},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        uirevision="keep",
    )
    return figure


def timeline(trials: pl.DataFrame, *, now: datetime) -> go.Figure:
    """One bar per trial of `frames.trials` from its start to its end, or to `now` while it runs.

    A trial takes the first lane that is free when it starts, so there are as many lanes as trials ran at once.
    """
    figure = go.Figure()
    begun = trials.drop_nulls("started").sort("started")
    ended = pl.col("started") + pl.duration(microseconds=pl.col("seconds") * 1e6)
    begun = begun.with_columns(pl.coalesce(ended, pl.lit(now)).alias("ended"))
    begun = begun.with_columns(pl.Series("lane", _lanes(begun.select("started", "ended").rows()), dtype=pl.Int64))
    for state in palette.STATE_COLOURS:
        own = begun.filter(pl.col("state") == state)
        if own.is_empty():
            continue
        lengths = (own["ended"] - own["started"]).dt.total_milliseconds()
        figure.add_trace(
            go.Bar(y=own["lane"], x=lengths, base=own["started"], orientation="h", name=state.lower(),
                   marker={"color": palette.STATE_COLOURS[state], "line": {"width": 1, "color": palette.NEUTRAL}},
                   text=[text.in_plotly(each) for each in own["label"]], textposition="inside",
                   insidetextanchor="start", customdata=[text.duration(each / 1000) for each in lengths],
                   hovertemplate="%{text}: %{customdata}<extra></extra>")
        )  # fmt: skip
    figure.update_layout(
        height=130 + 34 * (begun["lane"].n_unique() or 1),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "time of day on the driver's clock", "type": "date"},
        yaxis={"title": "running at once", "dtick": 1, "autorange": "reversed", "zeroline": False, "showgrid": False},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        barmode="overlay",
        uirevision="keep",
    )
    return figure


def _lanes(spans: list[tuple[datetime, datetime]]) -> list[int]:
    """The lane (from 1) of each span of time, in the order of their starts."""
    free_from: list[datetime] = []
    lanes = []
    for started, ended in spans:
        lane = next((i for i, since in enumerate(free_from) if since <= started), len(free_from))
        free_from[lane : lane + 1] = [ended]
        lanes.append(lane + 1)
    return lanes
