"""Pruning: which trials were stopped, on what evidence, and what that spared."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from dashboards import costs, frames, text
from dashboards.figures.pruning import intermediate_values, timeline
from dashboards.source import Study
from dashboards.thinning import thin


def render(study: Study) -> None:
    """What was saved in one line, the curves that the pruner saw, the pruned trials, and the timeline."""
    st.title("Pruning")
    saved = costs.saved_by_pruning(study.trials, steps=study.steps)
    pruned = costs.pruned(study.trials, study.evaluations, set_name=study.sets[0], steps=study.steps)
    if saved is None:
        st.info("No trial has finished yet.")
    elif pruned.is_empty():
        st.info(f"None of the finished trials was pruned by {text.in_markdown(study.results.spec.pruner.name)}.")
    else:
        spared = text.duration(pruned["spared_seconds"].sum())
        st.markdown(
            f"{pruned.height} trials were pruned by **{text.in_markdown(study.results.spec.pruner.name)}**; that spared"
            f" {100 * saved:.0f} % of the finished trials' steps, about {spared} of running trials."
        )
    points = frames.curves(study.trials, study.evaluations, set_name=study.sets[0], error=None)
    shown = thin(points, best=study.results.best.number if study.results.best else None)
    figure = intermediate_values(shown.curves, ends=shown.ends)
    st.plotly_chart(figure, key="intermediate", alt="Accuracy over training steps by trial")
    if shown.sentence:
        st.caption(shown.sentence)
    if pruned.height:
        st.subheader("Pruned trials")
        columns = {
            "label": "trial",
            "pruned_at": "stopped at step",
            "spared_steps": "steps spared",
            "spared_seconds": st.column_config.NumberColumn(
                "time spared (s)", format="%.0f", help="At its own time per step."
            ),
        }
        st.dataframe(pruned, column_config=columns, hide_index=True, key="pruned", alt="Pruned trials")
    if study.trials["started"].drop_nulls().len():
        st.subheader("Timeline")
        st.plotly_chart(timeline(study.trials, now=datetime.now()), key="timeline", alt="When each trial ran")
