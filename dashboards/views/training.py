"""Training dynamics: every quantity that the paper plots, over steps, for chosen trials."""

from __future__ import annotations

import streamlit as st

from dashboards import metrics, paper, text
from dashboards.figures.training import training_dynamics
from dashboards.source import Study
from dashboards.views.widgets import IN_URL, choose_trials, is_dark

MOST_TRIALS = 8


def render(study: Study) -> None:
    """Chosen trials, smoothing, the paper's runs; then one panel per quantity."""
    st.title("Training dynamics")
    left, middle, right = st.columns([2, 1, 2])
    with left:
        chosen = choose_trials(study, most=MOST_TRIALS, placeholder="the best trial, the controls and the newest")
    window = middle.select_slider("Mean of the last steps", [1, 3, 5, 10, 20], key="smooth", **IN_URL)
    runs = right.multiselect("The paper's curves behind", paper.runs(), key="paper", placeholder="none", **IN_URL)
    training = metrics.training(study.results, chosen)
    if training.is_empty():
        st.info("The chosen trials have not finished a training step yet.")
        return
    warnings = metrics.early_warnings(training)
    for label, metric, step in warnings.select("label", "metric", "step").iter_rows():
        sentence = f"{label}: {metric} is over 3 times its median so far from step {step}, as in the paper's Figure 2."
        st.warning(text.in_markdown(sentence))
    behind = paper.curves()
    figure = training_dynamics(
        metrics.smoothed(training, window),
        warnings=warnings,
        paper=behind.filter(behind["name"].is_in(runs)) if runs else None,
        dark=is_dark(),
    )
    st.plotly_chart(figure, key="training", config={"displaylogo": False}, alt="Training metrics over steps, by trial")
    if runs:
        st.caption("Paper: arXiv 2603.19835, digitised; its steps, lengths and model sizes are its own.")
