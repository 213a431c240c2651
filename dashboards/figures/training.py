"""Training metrics over steps: one small figure per quantity, so that a narrow window can stack them."""

from __future__ import annotations

import html
from collections.abc import Mapping

import plotly.graph_objects as go
import polars as pl

from dashboards import frames, palette, text
from dashboards.figures import axes
from dashboards.metrics import Quantity

HEIGHT = 235


def colours(training: pl.DataFrame) -> dict[int, str]:
    """One colour for each trial of `metrics.training`, the same in all panels."""
    trials = training["trial"].unique(maintain_order=True)
    return {trial: palette.CATEGORIES[i % len(palette.CATEGORIES)] for i, trial in enumerate(trials)}


def panel(
    quantity: Quantity,
    training: pl.DataFrame,
    *,
    colours: Mapping[int, str],
    raw: pl.DataFrame | None = None,
    signs: pl.DataFrame | None = None,
    paper: pl.DataFrame | None = None,
    own_axes: bool = True,
    controls: Mapping[int, str] | None = None,
    few: pl.DataFrame | None = None,
) -> go.Figure:
    """One quantity, one line per trial.

    Args:
        controls: how the lines of controls are dashed, by trial.
        few: evaluations of `frames.FEW`, drawn hollow where the quantity is avg@k.
        training: of `metrics.training`, maybe smoothed; `raw` is the same before smoothing, drawn faint behind.
        signs: of `collapse_signs.collapse_signs`: a dotted line where this quantity shows one.
        paper: rows of `paper.curves` to draw behind.
        own_axes: the paper's curves on grey axes of their own (right and top): its steps and lengths are much larger.
    """
    figure = go.Figure()
    if paper is not None:
        _paper_lines(figure, paper, quantity, own_axes=own_axes)
    for frame, faint in ((raw, True), (training, False)):
        if frame is None:
            continue
        for (trial,), own in frame.filter(pl.col("metric") == quantity.metric).group_by("trial", maintain_order=True):
            name = text.in_plotly(own["label"][0])
            figure.add_trace(
                go.Scatter(x=own["step"], y=own["value"], mode="lines" if own.height > 1 else "markers",
                           line={"color": colours[trial], "width": 1 if faint else 1.8,
                                 "dash": (controls or {}).get(trial, "solid")}, opacity=0.3 if faint else 1,
                           marker={"color": colours[trial]}, cliponaxis=False, name=name,
                           meta=None if faint else trial,
                           hoverinfo="skip" if faint else None,
                           hovertemplate=None if faint else f"{name}, step %{{x}}: %{{y:.4g}}<extra></extra>")
            )  # fmt: skip
    if few is not None and quantity.metric == "accuracy/avg" and not few.is_empty():
        _hollow(figure, few.filter(pl.col("trial").is_in(list(colours))), colours)
    if signs is not None:
        for trial, step in signs.filter(pl.col("metric") == quantity.metric).select("trial", "step").rows():
            figure.add_vline(x=step, line={"dash": "dot", "width": 2, "color": colours[trial]})
            figure.add_annotation(x=step, y=1, yref="paper", text="⚠", showarrow=False, yanchor="bottom",
                                  font={"size": 14, "color": colours[trial]})  # fmt: skip
    steps, values = training["step"], training.filter(pl.col("metric") == quantity.metric)["value"]
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False, nticks=5, tickformat=_tick_format(quantity), exponentformat="e")
    figure.update_layout(
        title={"text": _title(quantity), "font": {"size": 13}, "x": 0, "xref": "paper", "y": 1, "yref": "container",
               "yanchor": "top", "pad": {"t": 4}},
        xaxis={"title": {"text": "training step", "font": {"size": 11}},
               "range": [steps.min(), max(steps.max(), steps.min() + 1)] if steps.len() and own_axes else None},
        height=HEIGHT, margin={"l": 4, "r": 8, "t": 44, "b": 34}, showlegend=False, uirevision="keep",
    )  # fmt: skip
    ours_alone = own_axes or paper is None or quantity.metric not in set(paper["metric"])
    if quantity.metric.startswith("accuracy/") and values.len():
        figure.update_layout(yaxis=axes.accuracy(values))
    elif ours_alone and values.len() and values.min() == values.max():
        # Plotly would show one unit around a constant, below zero for a fraction of 0.
        figure.update_layout(yaxis={"range": sorted([0, 2 * values[0] or 1])})
    return figure


def legend(
    training: pl.DataFrame, colours: Mapping[int, str], references: Mapping[str, str], *, signs: bool, dark: bool,
    few: str = "",
) -> str:  # fmt: skip
    """HTML of one line sample and name per trial, then per run of the paper (`references`: name to dash); wraps.

    Args:
        signs: whether a panel shows the sign of a collapse.
        few: of `frames.k_in_words`, what hollow points are.
    """
    shown = [(colours[trial], "solid", label) for trial, label in
             training.select("trial", "label").unique(maintain_order=True).rows()]  # fmt: skip
    shown += [(palette.NEUTRAL, "dashed" if dash.endswith("dash") else "dotted", f"paper: {name}")
              for name, dash in references.items()]  # fmt: skip
    shown += [(palette.NEUTRAL, "dotted", "upright with ⚠: sign of a collapse")] if signs else []
    shown += [(palette.NEUTRAL, "solid", f"hollow: {few}")] if few else []
    items = "".join(
        '<span style="display:inline-flex;align-items:center;gap:.45rem">'
        f'<span style="width:1.6rem;border-top:3px {style} {colour}"></span>{html.escape(name)}</span>'
        for colour, style, name in shown
    )
    foreground = palette.foreground(dark)
    return f'<div style="display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;font-size:.9rem;color:{foreground}">{items}</div>'


def dashes(paper: pl.DataFrame | None) -> dict[str, str]:
    """How each run of the paper is drawn, by its name."""
    names = paper["name"].unique(maintain_order=True) if paper is not None else []
    return {name: ("dash", "dot", "longdash", "dashdot")[i % 4] for i, name in enumerate(names)}


def _hollow(figure: go.Figure, few: pl.DataFrame, colours: Mapping[int, str]) -> None:
    """Mark evaluations of fewer responses than planned on the lines that go through them."""
    for own in few.partition_by("trial", maintain_order=True):
        said = [frames.k_in_words(own[i]) for i in range(own.height)]
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["accuracy"], mode="markers", cliponaxis=False, showlegend=False, text=said,
                       marker={"symbol": "circle-open", "size": 8, "color": colours[own["trial"][0]]},
                       hovertemplate="%{text}, step %{x}: %{y:.1%}<extra></extra>")
        )  # fmt: skip


def _title(quantity: Quantity) -> str:
    where = f"  <span style='color:{palette.NEUTRAL};font-size:11px'>Fig. {quantity.figures}</span>"
    return f"<b>{quantity.title}</b>" + (where if quantity.figures else "")


def _tick_format(quantity: Quantity) -> str | None:
    if quantity.metric.startswith("accuracy/"):
        return ".0%"
    return ",d" if quantity.title.endswith("(tokens)") else None


def _paper_lines(figure: go.Figure, paper: pl.DataFrame, quantity: Quantity, *, own_axes: bool) -> None:
    runs = paper.filter(pl.col("metric") == quantity.metric)
    if runs.is_empty():
        return
    axes = {"xaxis": "x2", "yaxis": "y2"} if own_axes else {}
    for (name,), own in runs.group_by("name", maintain_order=True):
        line = {"color": palette.NEUTRAL, "width": 1.4, "dash": dashes(paper)[str(name)]}
        hover = f"paper, {name}, step %{{x}}: %{{y:.4g}}<extra></extra>"
        figure.add_trace(
            go.Scatter(x=own["step"], y=own["value"], mode="lines", line=line, hovertemplate=hover, **axes)
        )
    if own_axes:
        grey = {"tickfont": {"color": palette.NEUTRAL, "size": 10}, "showgrid": False, "zeroline": False, "nticks": 5,
                "tickmode": "auto"}  # fmt: skip
        figure.update_layout(
            xaxis2={"overlaying": "x", "side": "top", **grey},
            yaxis2={"overlaying": "y", "side": "right", "exponentformat": "e", **grey},
        )
