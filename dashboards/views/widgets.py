"""Widgets that several pages share; their state lives in the address."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboards.source import Study

IN_URL: Any = {"bind": "query-params", "persist_state": "session"}


def is_dark() -> bool:
    """Whether the browser shows the page in the dark theme."""
    return st.context.theme.type == "dark"


def choose_trials(study: Study, *, most: int | None = None, placeholder: str = "all trials") -> list[int]:
    """A multiselect of trials by label. Left empty: all, or with `most` the best, the controls and the newest."""
    labels = dict(study.trials.select("trial", "label").iter_rows())
    chosen = st.multiselect(
        "Trials", list(labels), key="trials", format_func=labels.__getitem__, placeholder=placeholder, **IN_URL
    )
    if chosen or most is None:
        return chosen[:most]
    best = study.results.best
    controls = study.trials.drop_nulls("control")["trial"].to_list()
    begun = study.trials.drop_nulls("started").sort("started")["trial"].to_list()
    return list(dict.fromkeys([*([best.number] if best else []), *controls, *begun[::-1]]))[: min(4, most)]
