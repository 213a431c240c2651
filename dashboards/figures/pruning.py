"""What pruning saw and what it spared: accuracy over steps, and which trial ran when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import plotly.graph_objects as go
import polars as pl

from dashboards import frames, palette, text
from dashboards.figures import axes
from dashboards.figures.parameters import LEGEND, MARGIN
from dashboards.spans import lanes
from study.time_left import duration

END, HOLLOW = 10, 7
"""Sizes of newest points and of those with few responses; a smaller one would not look hollow."""


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
        symbols = [
            palette.symbol(palette.STATE_SYMBOLS[state], hollow=few) for few in own.select(frames.FEW).to_series()
        ]
        marker = {"symbol": symbols, "size": 7, "color": palette.STATE_COLOURS[state]}
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["accuracy"], mode="markers", marker=marker, opacity=0.5, showlegend=False,
                       text=[text.in_plotly(each) for each in own["label"]], customdata=_told(own),
                       hovertemplate="%{text}, step %{x}: %{y:.1%}%{customdata[1]}<extra></extra>")
        )  # fmt: skip
    for own in curves.partition_by("trial", maintain_order=True):
        state = own["state"][0]
        shade = palette.STATE_COLOURS[state]
        ends_and_few = own.select("last", frames.FEW.alias("few")).rows()
        symbols = [palette.symbol(palette.STATE_SYMBOLS[state] if last else "circle", hollow=few)
                   for last, few in ends_and_few]  # fmt: skip
        sizes = [END if last else HOLLOW if few else 4 for last, few in ends_and_few]
        marker = {"symbol": symbols, "size": sizes, "opacity": 1.0, "color": shade}
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["accuracy"], mode="lines+markers", line={"color": shade, "width": 1.5},
                       marker=marker, opacity=0.75, showlegend=False, meta=own["trial"][0],
                       customdata=_told(own), name=text.in_plotly(own["label"][0]),
                       hovertemplate="%{fullData.name}, step %{x}: %{y:.1%}%{customdata[1]}<extra></extra>")
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
    explain_hollow(figure, everything)
    figure.update_layout(
        height=440,
        margin=MARGIN,
        xaxis={"title": "training step", "zeroline": False},
        yaxis={"title": text.in_plotly(measure), **axes.accuracy(everything["accuracy"])},
        legend=LEGEND,
        hovermode="closest",
        uirevision="keep",
    )
    return figure


def explain_hollow(figure: go.Figure, points: pl.DataFrame) -> None:
    """An entry of the legend for points of fewer responses than planned, where there are any."""
    few = frames.k_in_words(points)
    if few:
        marker = {"symbol": "circle-open", "size": END, "color": palette.NEUTRAL}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=f"hollow: {few}", marker=marker))


def _told(points: pl.DataFrame) -> list[tuple[int, str]]:
    """Per point: trial number (what a click opens), and its k where that is less than planned."""
    few = points.select("trial", "samples", "planned", frames.FEW.alias("few")).rows()
    return [(trial, f", k = {samples} of {planned}" if is_few else "") for trial, samples, planned, is_few in few]


def timeline(trials: pl.DataFrame, spans: pl.DataFrame) -> go.Figure:
    """One bar for each time that a trial of `frames.trials` ran, and a dotted line where it stood still between two.

    A trial takes the first lane that is free when it starts, so there are as many lanes as trials ran at a time.

    Args:
        spans: of `spans.spans`.
    """
    figure = go.Figure()
    whole = spans.group_by("trial").agg(
        pl.col("began").min(), pl.col("ended").max(), (pl.col("ended") - pl.col("began")).sum().alias("ran")
    )
    begun = trials.join(whole, on="trial").sort("began", "trial")
    begun = begun.with_columns(pl.Series("lane", lanes(begun.select("began", "ended").rows()), dtype=pl.Int64))
    names = {trial: text.in_plotly(label) for trial, label in begun.select("trial", "label").rows()}
    said = {row["trial"]: _ran(row) for row in begun.iter_rows(named=True)}
    bars = spans.join(begun.select("trial", "state", "lane"), on="trial", maintain_order="left")
    length = (pl.col("ended") - pl.col("began")).dt.total_milliseconds()
    bars = bars.with_columns(length.alias("length"), (length == length.max().over("trial")).alias("named"))
    _breaks(figure, bars)
    for state in palette.STATE_COLOURS:
        own = bars.filter(pl.col("state") == state)
        if own.is_empty():
            continue
        labels = [names[trial] if named else "" for trial, named in own.select("trial", "named").rows()]
        figure.add_trace(
            go.Bar(y=own["lane"], x=own["length"], base=own["began"], orientation="h", name=state.lower(),
                   marker={"color": palette.STATE_COLOURS[state], "line": {"width": 1, "color": palette.NEUTRAL},
                           "pattern": {"shape": "/" if state == "PRUNED" else "", "fgcolor": "rgba(255,255,255,0.45)",
                                       "bgcolor": palette.STATE_COLOURS[state], "solidity": 0.2}},
                   text=labels, textposition="inside", insidetextanchor="start", textangle=0,
                   customdata=[said[trial] for trial in own["trial"]], hovertemplate="%{customdata}<extra></extra>")
        )  # fmt: skip
    at_a_time = begun["lane"].n_unique() or 1
    figure.update_layout(
        height=130 + 34 * at_a_time,
        margin=MARGIN,
        xaxis={"title": "time of day on the driver's clock", "type": "date"},
        yaxis={"title": f"{at_a_time} at a time", "tickvals": list(range(1, at_a_time + 1)),
               "autorange": "reversed", "zeroline": False, "showgrid": False},
        legend=LEGEND,
        barmode="overlay",
        uniformtext={"mode": "hide", "minsize": 9},
        uirevision="keep",
    )  # fmt: skip
    return figure


def _ran(row: dict[str, Any]) -> str:
    """What a bar says: the trial, how it ended, how long it ran and stood still."""
    still = (row["ended"] - row["began"] - row["ran"]).total_seconds()
    return (
        f"<b>{text.in_plotly(row['label'])}</b> {row['state'].lower()} after {row['steps_done']} steps"
        f"<br>{duration(row['ran'].total_seconds())}" + (f", stood still {duration(still)}" if still else "")
    )


def _breaks(figure: go.Figure, bars: pl.DataFrame) -> None:
    """A dotted line from the end of each bar to the next one of its trial."""
    after = bars.with_columns(pl.col("began").shift(-1).over("trial", order_by="began").alias("next"))
    x: list[datetime | None] = []
    y: list[int | None] = []
    for lane, ended, begins in after.drop_nulls("next").select("lane", "ended", "next").rows():
        x += [ended, begins, None]
        y += [lane, lane, None]
    if x:
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="lines", line={"color": palette.NEUTRAL, "width": 2, "dash": "dot"},
                       name="stood still (study stopped, or a process died)", hoverinfo="skip")
        )  # fmt: skip
