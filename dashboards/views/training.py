"""Training dynamics: every quantity that the paper plots, over steps, for chosen trials."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards import frames, metrics, paper, text
from dashboards.collapse_signs import collapse_signs, sentence
from dashboards.figures import training as figures
from dashboards.source import Study
from dashboards.views.widgets import IN_URL, choose_trials, is_dark

MOST_TRIALS = 8
WINDOWS = (1, 3, 5, 10, 20)
OWN, SHARED = "of its own, in grey", "the same"
AXES_HELP = "Of its own: for the shape, whatever the scale. The same: where steps and lengths compare with the paper's."
CONFIG = {"displaylogo": False, "displayModeBar": False}


def render(study: Study) -> None:
    """Chosen trials, smoothing, the paper's runs; signs of a collapse in words; then one panel per quantity."""
    st.title("Training dynamics")
    left, middle, right, last = st.columns([3, 2, 3, 2])
    with left:
        chosen = choose_trials(study, most=MOST_TRIALS, placeholder="the best, the controls and the newest")
    window = middle.select_slider("Mean of the last steps", WINDOWS, key="smooth", format_func=_window, **IN_URL)
    runs = right.multiselect("The paper's curves", paper.runs(), key="paper", placeholder="none", **IN_URL)
    axes = last.selectbox("The paper's axes", [OWN, SHARED], key="axes", help=AXES_HELP, disabled=not runs, **IN_URL)
    training = metrics.training(study.results, chosen)
    if training.is_empty():
        st.info("The chosen trials have not finished a training step yet.")
        return
    signs = collapse_signs(training)
    _warn(study, chosen, signs)
    behind = paper.curves().filter(pl.col("name").is_in(runs)) if runs else None
    colours = figures.colours(training)
    few = study.evaluations.filter(frames.FEW, pl.col("set") == study.sets[0], pl.col("trial").is_in(chosen))
    st.html(
        figures.legend(training, colours, figures.dashes(behind), signs=not signs.is_empty(), dark=is_dark(),
                       few=frames.k_in_words(few))
    )  # fmt: skip
    smooth = metrics.smoothed(training, window)
    present = set(training["metric"])
    for group, quantities in metrics.GROUPS.items():
        shown = [each for each in quantities if each.metric in present]
        if shown:
            st.subheader(text.in_markdown(f"{group} on {study.sets[0]}" if group == "Accuracy" else group))
            columns = st.container(key=f"panels-{group}").columns(len(shown))
            for column, quantity in zip(columns, shown, strict=True):
                figure = figures.panel(
                    quantity, smooth, colours=colours, raw=training if window > 1 else None, signs=signs, paper=behind,
                    own_axes=axes == OWN, few=few,
                )  # fmt: skip
                alt = f"{quantity.title} over training steps, by trial"
                column.plotly_chart(figure, key=f"panel-{quantity.metric}", config=CONFIG, alt=alt)
    if runs:
        st.caption("Paper: arXiv 2603.19835, digitised; its steps, lengths and model sizes are its own.")


def _window(steps: int) -> str:
    return "raw" if steps == 1 else str(steps)


def _warn(study: Study, chosen: list[int], signs: pl.DataFrame) -> None:
    for own in signs.partition_by("trial", maintain_order=True):
        st.warning(text.in_markdown(sentence(own)), icon=":material/warning:")
    for trial in study.results.trials:
        if trial.number in chosen and trial.stop_reason:
            st.warning(text.in_markdown(f"#{trial.number} was stopped: {trial.stop_reason}"), icon=":material/block:")
