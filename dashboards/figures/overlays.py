"""What can be laid over the length-accuracy chart: stage-wise fits, the Pareto front, the paper's own curves."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text


def add_fits(figure: go.Figure, fits: pl.DataFrame, *, dark: bool = False) -> None:
    """Draw the lines of `fits.stage_fits`, each over the lengths it was fitted on."""
    for row in fits.iter_rows(named=True):
        ends = [row["shortest"], row["longest"]]
        hover = (
            f"stage {row['stage']}, steps {row['first_step']} to {row['last_step']}: "
            f"{text.number(100 * row['slope'])} ± {text.number(100 * row['slope_error'])} points per token, "
            f"R² {row['r2']:.2f}<extra></extra>"
        )
        figure.add_trace(
            go.Scatter(x=ends, y=[row["intercept"] + row["slope"] * each for each in ends], mode="lines",
                       line={"color": palette.foreground(dark), "width": 2}, name="stage fit",
                       legendgroup="fit", showlegend=row["stage"] == fits["stage"][0], hovertemplate=hover)
        )  # fmt: skip


def add_front(figure: go.Figure, front: pl.DataFrame) -> None:
    """Draw `fits.pareto_front` as a staircase: the best accuracy reached within each length."""
    line = {"color": palette.STATE_COLOURS["FAIL"], "width": 1.5, "dash": "dash", "shape": "hv"}
    figure.add_trace(
        go.Scatter(
            x=front["length"], y=front["accuracy"], mode="lines", line=line, name="Pareto front", hoverinfo="skip"
        )
    )


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
    figure.update_xaxes(type="log", dtick="D2")
