"""What can be laid over the length-accuracy chart: stage-wise fits, the Pareto front, the paper's own curves."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text

FIT_POINTS, FIT_DASHES = 24, ("solid", "dash", "dashdot", "longdash")
TICKS = {m * 10**power: f"{m * 10 ** (power % 3)}{'k' * (power // 3)}" for power in range(6) for m in (1, 3)}
"""Of a logarithmic axis of lengths, tokens."""


def add_fits(figure: go.Figure, fits: pl.DataFrame, *, dark: bool = False) -> None:
    """Draw the lines of `fits.stage_fits`, each over the lengths it was fitted on; slope and R2 stand in the legend."""
    shade = palette.foreground(dark)
    for row in fits.iter_rows(named=True):
        # Several points: a straight line is none once the paper's curves make the axis logarithmic.
        span = row["longest"] - row["shortest"]
        lengths = [row["shortest"] + span * i / FIT_POINTS for i in range(FIT_POINTS + 1)]
        slope = f"{text.number(100 * row['slope'])} ± {text.number(100 * row['slope_error'])} points per token"
        name = f"stage {row['stage']}: {slope}, R² {row['r2']:.2f}"
        hover = f"steps {row['first_step']} to {row['last_step']}, {row['points']} points<br>{slope}, "
        figure.add_trace(
            go.Scatter(x=lengths, y=[row["intercept"] + row["slope"] * each for each in lengths], mode="lines",
                       line={"color": shade, "width": 2.5, "dash": FIT_DASHES[(row["stage"] - 1) % len(FIT_DASHES)]},
                       name=name, hovertemplate=f"{hover}R² {row['r2']:.2f}<extra>stage {row['stage']}</extra>")
        )  # fmt: skip


def add_front(figure: go.Figure, front: pl.DataFrame) -> None:
    """Draw `fits.pareto_front` as a staircase: the best accuracy reached within each length."""
    line = {"color": palette.STATE_COLOURS["FAIL"], "width": 1.5, "dash": "dash", "shape": "hv"}
    ring = {"symbol": "circle-open", "size": 16, "color": palette.STATE_COLOURS["FAIL"], "line": {"width": 1.5}}
    figure.add_trace(
        go.Scatter(x=front["length"], y=front["accuracy"], mode="lines+markers", line=line, marker=ring,
                   name="Pareto front", hoverinfo="skip")
    )  # fmt: skip


def add_paper(figure: go.Figure, paper: pl.DataFrame) -> None:
    """Draw runs of `paper.length_accuracy` in grey and spread the axis by its logarithm, for the paper's are long."""
    for index, (run,) in enumerate(paper.select("run").unique(maintain_order=True).rows()):
        own = paper.filter(pl.col("run") == run)  # in the order of the paper, which leaves some steps unnamed
        line = {"color": palette.NEUTRAL, "width": 1.2, "dash": ("solid", "dot")[index % 2]}
        name = f"paper: 32B {run.upper()}, AIME 2024 avg@32"
        figure.add_trace(
            go.Scatter(x=own["length"], y=own["accuracy"], mode="lines+markers", line=line, marker={"size": 4},
                       name=name, hovertemplate="paper: %{x:,.0f} tokens, %{y:.1%}<extra></extra>")
        )  # fmt: skip
    # Plotly takes an annotation's place on a log axis as a power of ten, unlike a trace's.
    figure.for_each_annotation(lambda note: note.update(x=math.log10(note.x)))
    figure.update_xaxes(type="log", tickvals=list(TICKS), ticktext=list(TICKS.values()), tickangle=0)
