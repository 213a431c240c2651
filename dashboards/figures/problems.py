"""Which problems each of some trials solves: one row per trial, one column per problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from dashboards import palette, text
from dashboards.figures.parameters import MARGIN

if TYPE_CHECKING:
    from trainer.records import SetScore

ROW = 34


def solved_map(scores: Mapping[str, SetScore], *, hardest_first: bool, dark: bool = False) -> go.Figure:
    """The share of responses that solve each problem, by label of the trial; the first label stands on top.

    Args:
        hardest_first: problems by how often all the trials solve them, else in the order of the set.
    """
    problems = range(min(len(score.solved) for score in scores.values()))
    shares = {name: [solved / score.samples for solved in score.solved] for name, score in scores.items()}
    if hardest_first:
        problems = sorted(problems, key=lambda i: (sum(share[i] for share in shares.values()), i))
    names = [text.in_plotly(name) for name in scores]
    said = [
        [f"<b>{name}</b>, problem {i + 1}: {score.solved[i]} of {score.samples} solved" for i in problems]
        for name, score in zip(names, scores.values(), strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=[[share[i] for i in problems] for share in shares.values()], y=names, x=[str(i + 1) for i in problems],
            colorscale=palette.sequential(dark), zmin=0, zmax=1, xgap=2, ygap=2, text=said,
            hovertemplate="%{text}<extra></extra>",
            colorbar={"title": {"text": "solved", "side": "right"}, "tickformat": ".0%", "thickness": 12,
                      "outlinewidth": 0, "nticks": 3},
        )
    )  # fmt: skip
    figure.update_xaxes(title="problem" + (", the hardest first" if hardest_first else ""), type="category",
                        showgrid=False, tickangle=0)  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_layout(height=120 + ROW * len(names), margin=MARGIN, uirevision="keep")
    return figure
