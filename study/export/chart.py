"""Length against accuracy of a study as one Plotly figure: the chosen trial and the controls before all others."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from study.export.script import plain
from study.results import StudyResults, TrialResult
from study.space import few_digits
from study.tables import label

if TYPE_CHECKING:
    import plotly.graph_objects as go

CHOSEN, CONTROL, OTHER = "#0072B2", "#D55E00", "#8b919c"
"""Okabe and Ito's blue and vermilion, and a grey; all readable on white and on near black."""


def length_accuracy(results: StudyResults, chosen: TrialResult) -> go.Figure:
    """avg@k of the selecting set against mean response length, one line per trial in step order.

    Bars are the standard error of sampling; only those of the chosen trial and of controls, which are compared.
    """
    import plotly.graph_objects as go

    selecting = results.spec.selecting
    figure, named = go.Figure(), set()
    for trial in sorted(results.trials, key=lambda each: _depth(each, chosen)):
        points = trial.scores(selecting.name)
        if not points:
            continue
        name, colour, width, dash = _look(trial, chosen)
        depth = _depth(trial, chosen)
        last = "x" if trial.state in ("PRUNED", "FAIL") else "circle"
        settings = ", ".join(f"{key.split('.')[-1]} {few_digits(value)}" for key, value in trial.params.items())
        figure.add_trace(
            go.Scatter(
                x=[score.mean_length for score in points.values()],
                y=[score.accuracy for score in points.values()],
                error_y={
                    "type": "data", "array": [score.sampling_error or 0.0 for score in points.values()], "width": 0,
                    "thickness": 1.2, "visible": depth > 1,
                },
                customdata=[[step] for step in points],
                name=escape(plain(name)),
                legendgroup=name,
                legendrank=1000 - depth,
                showlegend=name not in named,
                mode="lines+markers",
                opacity=1.0 if depth > 1 else 0.75 if depth else 0.4,
                line={"color": colour, "width": width, "dash": dash},
                marker={
                    "size": [(10 if depth > 1 else 7) if end else 4 for end in _ends(len(points))],
                    "line": {"width": 0},
                    "symbol": [last if end else "circle" for end in _ends(len(points))],
                },
                hovertemplate=f"trial {trial.number}, step %{{customdata[0]}}: accuracy %{{y:.3f}}, %{{x:.1f}} tokens"
                f"<br>{escape(plain(settings))}<extra></extra>",
            )
        )  # fmt: skip
        named.add(name)
    figure.update_layout(
        xaxis_title="mean response length (tokens)",
        yaxis_title=f"{escape(selecting.name)} avg@{selecting.samples}",
        template="plotly_white",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 14},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        margin={"l": 70, "r": 16, "t": 24, "b": 56},
        hoverlabel={"bgcolor": "#262730", "font": {"color": "#fafafa"}},
        height=520,
    )
    return figure


def _ends(count: int) -> list[bool]:
    return [index == count - 1 for index in range(count)]


def _depth(trial: TrialResult, chosen: TrialResult) -> int:
    """What is drawn over what: ended early, complete, controls, the chosen one."""
    if trial.number == chosen.number:
        return 3
    return 2 if trial.control else int(trial.state == "COMPLETE")


def _look(trial: TrialResult, chosen: TrialResult) -> tuple[str, str, float, str]:
    """Name in the legend, colour, width and dash."""
    if trial.number == chosen.number:
        named = f" ({label(trial)})" if label(trial) else ""
        return f"trial {trial.number}{named}, chosen", CHOSEN, 3.5, "solid"
    if trial.control:
        return f"control {trial.control} (trial {trial.number})", CONTROL, 2.5, "dot"
    if trial.state == "COMPLETE":
        return "other complete trials", OTHER, 1.5, "solid"
    return "trials that ended early (crosses) or still run", OTHER, 1.0, "solid"
