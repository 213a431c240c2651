"""Where in a response FIPO puts its credit: the influence weight of each token, in order."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from dashboards import palette, text
from dashboards.figures.parameters import MARGIN


def credit(tokens: pl.DataFrame, *, dark: bool = False) -> go.Figure:
    """The influence weight over the positions of `completions.tokens`, with a line at 1, where nothing is changed."""
    said = [f"{place}: {text.in_plotly(repr(token))}" for place, token in tokens.select("position", "token").rows()]
    figure = go.Figure(
        go.Scatter(x=tokens["position"], y=tokens["influence_weight"], mode="lines", text=said,
                   line={"color": palette.CATEGORIES[0], "width": 1.5, "shape": "hvh"},
                   hovertemplate="%{text}<br>f = %{y:.4f}<extra></extra>")
    )  # fmt: skip
    line, note = {"color": palette.foreground(dark), "width": 1, "dash": "dot"}, {"font": {"size": 11}}
    figure.add_hline(y=1, line=line, annotation_text="1: as in DAPO", annotation=note)
    figure.update_xaxes(title="token", zeroline=False, showgrid=False)
    figure.update_yaxes(title="influence weight f<br>(own axis)", zeroline=False, nticks=4)
    figure.update_layout(height=170, margin=MARGIN, showlegend=False, uirevision="keep")
    return figure
