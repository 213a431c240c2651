"""What pruning saw and what it spared: accuracy over steps, and which trial ran when."""

from __future__ import annotations

from datetime import datetime

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text
from dashboards.figures.parameters import LEGEND, MARGIN

END = 10


def intermediate_values(
    curves: pl.DataFrame, *, measure: str, median: pl.DataFrame | None = None, ends: pl.DataFrame | None = None,
    dark: bool = False,
) -> go.Figure:  # fmt: skip
    """Accuracy of `frames.curves` over training steps; a pruned trial ends in a cross.

    Args:
        measure: what the accuracy is called, for the axis.
        median: columns step and accuracy, drawn on top: what a trial was up against.
        ends: points of the same kind as `curves` to draw without a curve (see `thinning.thin`).
    """
    figure = go.Figure()
    for own in ends.partition_by("state", maintain_order=True) if ends is not None else []:
        state = own["state"][0]
        marker = {"symbol": palette.STATE_SYMBOLS[state], "size": 7, "color": palette.STATE_COLOURS[state]}
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["accuracy"], mode="markers", marker=marker, opacity=0.5, showlegend=False,
                       text=[text.in_plotly(each) for each in own["label"]], customdata=own.select("trial").rows(),
                       hovertemplate="%{text}, step %{x}: %{y:.1%}<extra></extra>")
        )  # fmt: skip
    for own in curves.partition_by("trial", maintain_order=True):
        state = own["state"][0]
        shade = palette.STATE_COLOURS[state]
        marker = {"symbol": [palette.STATE_SYMBOLS[state] if last else "circle" for last in own["last"]],
                  "size": [END if last else 4 for last in own["last"]], "opacity": 1.0, "color": shade}  # fmt: skip
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["accuracy"], mode="lines+markers", line={"color": shade, "width": 1.5},
                       marker=marker, opacity=0.75, showlegend=False, meta=own["trial"][0],
                       customdata=own.select("trial").rows(),
                       hovertemplate=f"{text.in_plotly(own['label'][0])}, step %{{x}}: %{{y:.1%}}<extra></extra>")
        )  # fmt: skip
    if median is not None and median.height:
        line = {"color": palette.foreground(dark), "width": 2.5, "dash": "dash"}
        figure.add_trace(
            go.Scatter(x=median["step"], y=median["accuracy"], mode="lines", line=line, name="median of the complete",
                       hovertemplate="median of the complete, step %{x}: %{y:.1%}<extra></extra>")
        )  # fmt: skip
    everything = curves if ends is None else pl.concat([curves, ends])
    for state in [each for each in palette.STATE_SYMBOLS if each in set(everything["state"])]:
        shade = palette.STATE_COLOURS[state]
        marker = {"symbol": palette.STATE_SYMBOLS[state], "size": END, "color": shade}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines+markers", name=state.lower(), marker=marker,
                                    line={"color": shade}))  # fmt: skip
    figure.update_layout(
        height=440,
        margin=MARGIN,
        xaxis={"title": "training step", "zeroline": False},
        yaxis={"title": text.in_plotly(measure), "tickformat": ".0%", "zeroline": False},
        legend=LEGEND,
        hovermode="closest",
        uirevision="keep",
    )
    return figure


def timeline(trials: pl.DataFrame, run_seconds: pl.DataFrame, *, now: datetime, concurrency: int) -> go.Figure:
    """One bar per trial of `frames.trials` from its start to its end, or to `now` while it runs.

    A trial takes the first lane that is free when it starts, so there are as many lanes as trials ran at once. One that
    was stopped with its driver reaches as far as it had trained.

    Args:
        run_seconds: of `costs.run_seconds`.
        concurrency: how many the study runs at once.
    """
    figure = go.Figure()
    begun = trials.drop_nulls("started").join(run_seconds.select("trial", "run_seconds"), on="trial").sort("started")
    ended = pl.col("started") + pl.duration(microseconds=pl.col("seconds") * 1e6)
    trained = pl.col("started") + pl.duration(microseconds=pl.col("run_seconds") * 1e6)
    stopped = pl.when(pl.col("state") == "STOPPED").then(trained)
    begun = begun.with_columns(pl.coalesce(ended, stopped, pl.lit(now)).alias("ended"))
    begun = begun.with_columns(pl.Series("lane", _lanes(begun.select("started", "ended").rows()), dtype=pl.Int64))
    for state in palette.STATE_COLOURS:
        own = begun.filter(pl.col("state") == state)
        if own.is_empty():
            continue
        lengths = (own["ended"] - own["started"]).dt.total_milliseconds()
        names = [text.in_plotly(each) for each in own["label"]]
        said = [f"<b>{name}</b> {state.lower()} after {steps} steps<br>{text.duration(length / 1000)}"
                for name, steps, length in zip(names, own["steps_done"], lengths, strict=True)]  # fmt: skip
        figure.add_trace(
            go.Bar(y=own["lane"], x=lengths, base=own["started"], orientation="h", name=state.lower(),
                   marker={"color": palette.STATE_COLOURS[state], "line": {"width": 1, "color": palette.NEUTRAL},
                           "pattern": {"shape": "/" if state == "PRUNED" else "", "fgcolor": "rgba(255,255,255,0.45)",
                                       "bgcolor": palette.STATE_COLOURS[state], "solidity": 0.2}},
                   text=names, textposition="inside", insidetextanchor="start", textangle=0, customdata=said,
                   hovertemplate="%{customdata}<extra></extra>")
        )  # fmt: skip
    lanes = begun["lane"].n_unique() or 1
    figure.update_layout(
        height=130 + 34 * lanes,
        margin=MARGIN,
        xaxis={"title": "time of day on the driver's clock", "type": "date"},
        yaxis={"title": f"{concurrency} at a time", "tickvals": list(range(1, lanes + 1)), "autorange": "reversed",
               "zeroline": False, "showgrid": False},
        legend=LEGEND,
        barmode="overlay",
        uniformtext={"mode": "hide", "minsize": 9},
        uirevision="keep",
    )  # fmt: skip
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
