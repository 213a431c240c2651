"""The trial that was clicked on a chart: what it is, and the pages that show more of it."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from dashboards import frames, text
from dashboards.source import Study
from dashboards.views.widgets import PAGES


def clicked(event: Any) -> int | None:
    """Number of the trial whose point was clicked last; points carry it first in their customdata."""
    for point in reversed(event.selection.points):
        data = point.get("customdata")
        if data:
            return int(data[0])
    return None


def opened(study: Study, number: int, set_name: str) -> None:
    """A card of the trial with its newest accuracy, both errors, its settings, and links that carry it along."""
    table = frames.summary(study.trials, study.evaluations, set_name=set_name).filter(pl.col("trial") == number)
    if table.is_empty():
        return
    row = table.row(0, named=True)
    settings = [f"{text.label(key)} {text.number(row[key])}" for key in frames.parameters(study.trials)]
    with st.container(border=True):
        st.markdown(f"**{text.in_markdown(row['label'])}** {row['state'].lower()} after {row['steps_done']} steps")
        errors = text.errors(row) or "no error known"
        length = f"{text.number(row['mean_length'])} tokens on average"
        st.text(f"{text.accuracy(row['accuracy'])} ({errors}) at step {row['step']}, {length}")
        st.text(" · ".join(settings))
        if row["fail_reason"] or row["stop_reason"]:
            st.text(row["fail_reason"] or row["stop_reason"])
        links = st.columns(4)
        pages = st.session_state.get(PAGES, {})
        for column, (path, key) in zip(links, (("training", "trials"), ("completions", "trial"), ("export", "trial")),
                                       strict=False):  # fmt: skip
            if path in pages:
                column.page_link(pages[path], query_params={key: row["label"]})
