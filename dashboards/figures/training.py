"""Small multiples of the training metrics over steps, the quantities of the paper's Figures 2 to 12."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from dashboards import palette, text
from dashboards.metrics import QUANTITIES

COLUMNS, PANEL_HEIGHT = 3, 210


def training_dynamics(
    training: pl.DataFrame,
    *,
    warnings: pl.DataFrame,
    paper: pl.DataFrame | None = None,
    columns: int = COLUMNS,
    dark: bool = False,
) -> go.Figure:
    """One panel per metric that `training` (see `metrics.training`) has, one line per trial.

    Args:
        warnings: of `metrics.early_warnings`; a dotted line in the panel of its metric.
        paper: rows of `paper.curves` to draw behind, with the paper's own steps and units.
    """
    panels = [each for each in QUANTITIES if each.metric in set(training["metric"])]
    rows = max(1, -(-len(panels) // columns))
    spacing = {"vertical_spacing": 0.28 / rows, "horizontal_spacing": 0.07}
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=[panel.title for panel in panels], **spacing)
    labels = training.select("trial", "label").unique(maintain_order=True).rows()
    colours = {trial: palette.CATEGORIES[i % len(palette.CATEGORIES)] for i, (trial, _) in enumerate(labels)}
    references = paper["name"].unique(maintain_order=True).to_list() if paper is not None else []
    for index, panel in enumerate(panels):
        where = {"row": index // columns + 1, "col": index % columns + 1}
        if paper is not None:
            _paper_lines(figure, paper.filter(pl.col("metric") == panel.metric), references, dark, where)
        for (trial,), own in training.filter(pl.col("metric") == panel.metric).group_by("trial", maintain_order=True):
            line = {"color": colours[trial], "width": 1.8}
            name = text.in_plotly(own["label"][0])
            hover = f"{name}, step %{{x}}: %{{y:.4g}}<extra></extra>"
            figure.add_trace(
                go.Scatter(x=own["step"], y=own["value"], mode="lines", line=line, name=name, meta=trial,
                           showlegend=False, hovertemplate=hover), **where
            )  # fmt: skip
        for step in warnings.filter(pl.col("metric") == panel.metric)["step"]:
            figure.add_vline(
                x=step, line={"dash": "dot", "width": 1.5, "color": palette.STATE_COLOURS["FAIL"]}, **where
            )
    _legend(figure, labels, colours, references, dark)
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False, nticks=5, exponentformat="e")
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text="training step", row=rows, col=column)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        height=90 + PANEL_HEIGHT * rows,
        margin={"l": 10, "r": 10, "t": 70, "b": 10},
        legend={"orientation": "h", "y": 1 + 40 / (PANEL_HEIGHT * rows), "yanchor": "bottom", "x": 0},
        uirevision="keep",
    )
    return figure


def _paper_lines(
    figure: go.Figure, paper: pl.DataFrame, names: Sequence[str], dark: bool, where: dict[str, int]
) -> None:
    for (name,), own in paper.group_by("name", maintain_order=True):
        line = {"color": palette.NEUTRAL, "width": 1.2, "dash": _dash(names.index(name))}
        hover = f"paper, {name}, step %{{x}}: %{{y:.4g}}<extra></extra>"
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["value"], mode="lines", line=line, showlegend=False, hovertemplate=hover),
            **where,
        )


def _legend(
    figure: go.Figure, labels: Sequence[tuple[int, str]], colours: dict[int, str], references: Sequence[str], dark: bool
) -> None:
    for trial, label in labels:
        line = {"color": colours[trial], "width": 3}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", line=line, name=text.in_plotly(label)))
    for index, name in enumerate(references):
        line = {"color": palette.NEUTRAL, "width": 2, "dash": _dash(index)}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", line=line, name=f"paper: {name}"))


def _dash(index: int) -> str:
    return ("dash", "dot", "dashdot", "longdash")[index % 4]
