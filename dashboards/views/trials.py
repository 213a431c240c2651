"""The table of trials, shared by the pages that list them."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards import frames, text
from dashboards.source import Study

SAMPLING = (
    "One standard error from drawing k responses of these very problems, in points: compares trials of this study."
)
PROBLEMS = "One standard error from drawing these problems too, in points: what other problems would give."


def trials_table(study: Study, set_name: str) -> None:
    """One row per trial, the best value first; sortable in the browser, cells are plain text."""
    keys = frames.parameters(study.trials)
    table = frames.summary(study.trials, study.evaluations, set_name=set_name).with_columns(
        pl.col("state").str.to_lowercase(), pl.col("accuracy", "sampling_error", "problem_error") * 100
    )
    columns = {
        "label": st.column_config.TextColumn("trial", pinned=True, width=90),
        "state": st.column_config.TextColumn("state"),
        "steps_done": st.column_config.ProgressColumn("steps", min_value=0, max_value=study.steps, format="%d"),
        "accuracy": st.column_config.NumberColumn("accuracy, %", format="%.1f", help="avg@k at the newest evaluation"),
        "sampling_error": st.column_config.NumberColumn("± sampling", format="%.1f", help=SAMPLING),
        "problem_error": st.column_config.NumberColumn("± problems", format="%.1f", help=PROBLEMS),
        "mean_length": st.column_config.NumberColumn("mean length (tokens)", format="%.1f"),
        "growth": st.column_config.NumberColumn("length vs. base", format="%.2f×"),
        "fail_reason": st.column_config.TextColumn("why it failed"),
        **{
            key: st.column_config.NumberColumn(text.label(key), format="%.3g")
            for key in keys
            if table[key].dtype.is_numeric()
        },
    }
    order = [
        "label",
        "state",
        "steps_done",
        "accuracy",
        "sampling_error",
        "problem_error",
        "mean_length",
        "growth",
        *keys,
    ]
    if table["fail_reason"].drop_nulls().len():
        order.append("fail_reason")
    st.dataframe(
        table.select(order), column_config=columns, hide_index=True, key=f"table-{set_name}", alt="Trials of the study"
    )
