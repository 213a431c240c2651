"""An Optuna study without a study directory: Optuna's own plots, and what this dashboard would show beyond them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from dashboards import palette, text
from dashboards.optuna_study import OptunaStudy
from dashboards.views.widgets import ORDER

if TYPE_CHECKING:
    import optuna


TAGS = re.compile(r"<(?!br>)")


def render(study: OptunaStudy) -> None:
    """The best value and the states, then Optuna's plots as far as the study has something for them, then trials."""
    st.title(text.in_markdown(study.name))
    counts = {state: sum(each.state.name == state for each in study.trials) for state in ORDER}
    with st.sidebar:
        st.markdown(f"**{text.in_markdown(study.name)}**")
        said = " · ".join(f"{count} {state.lower()}" for state, count in counts.items() if count)
        st.caption(said or "no trials yet")
        st.caption(text.in_markdown(study.url))
    st.info(
        "An Optuna storage holds trials and values, but no response lengths, training metrics or completions. Those lie"
        " in the study's directory: open the dashboard on it to see all pages.", icon=":material/info:",
    )  # fmt: skip
    if not study.trials:
        st.info("The study has no trial yet. They appear here by themselves.", icon=":material/hourglass_top:")
        return
    copy = study.in_memory()
    if len(study.directions) == 1 and counts["COMPLETE"]:
        best = copy.best_trial
        st.metric(f"Best value, trial {best.number}", text.number(best.value), border=True, width=280)
        settings = (f"{text.in_markdown(key)} **{text.in_markdown(text.number(value))}**"
                    for key, value in best.params.items())  # fmt: skip
        st.markdown(" · ".join(settings))
    _plots(copy, counts["COMPLETE"])
    st.subheader("Trials")
    st.dataframe(_table(study), hide_index=True, key="trials-of-storage", alt="Trials of the study")


def _plots(study: optuna.Study, complete: int) -> None:
    import optuna.visualization as plots

    if len(study.directions) > 1:
        _drawn(study, "Pareto front", plots.plot_pareto_front)
        _drawn(study, "Timeline", plots.plot_timeline)
        return
    left, right = st.columns(2)
    with left:
        if complete:
            _drawn(study, "Value by trial", plots.plot_optimization_history)
        _drawn(study, "Timeline", plots.plot_timeline)
    with right:
        if any(each.intermediate_values for each in study.get_trials(deepcopy=False)):
            _drawn(study, "Intermediate values", plots.plot_intermediate_values)
        if complete > 1:
            _drawn(study, "Importance", plots.plot_param_importances)
    if complete > 1:
        _drawn(study, "One parameter at a time", plots.plot_slice)
        _drawn(study, "All parameters", plots.plot_parallel_coordinate)


def _drawn(study: optuna.Study, title: str, plot: Callable[[optuna.Study], go.Figure]) -> None:
    try:
        figure = inert(plot(study))
    except ValueError:  # Optuna refuses what a study has nothing for
        return
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    margin = {"l": 10, "r": 10, "t": 30, "b": 10}
    figure.update_layout(title_text="", margin=margin, height=360, legend=legend, plot_bgcolor="rgba(0,0,0,0)")
    figure.update_annotations(font_color=palette.NEUTRAL)
    figure.update_shapes(line_color=palette.NEUTRAL)
    st.subheader(title)
    st.plotly_chart(figure, key=f"optuna-{title}", alt=title)


def inert(figure: go.Figure) -> go.Figure:
    """The figure with every tag in its texts escaped that is not a line break: names may come from anywhere."""

    def walked(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walked(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [walked(each) for each in node]
        return TAGS.sub("&lt;", node) if isinstance(node, str) else node

    return go.Figure(walked(figure.to_dict()))


def _table(study: OptunaStudy) -> pl.DataFrame:
    """One row per trial: number, state, value (one column for each objective), when it ran, parameters as text."""
    keys = sorted({key for trial in study.trials for key in trial.params})
    rows = []
    for trial in study.trials:
        values = trial.values or [None] * len(study.directions)
        several = len(study.directions) > 1
        named = {f"value {i}" if several else "value": value for i, value in enumerate(values, start=1)}
        seconds = trial.duration.total_seconds() if trial.duration else None
        settings = {f"{key} ": text.setting(trial.params[key]) if key in trial.params else None for key in keys}
        rows.append({"trial": trial.number, "state": trial.state.name.lower(), **named, "seconds": seconds, **settings})
    return pl.DataFrame(rows, infer_schema_length=None)
