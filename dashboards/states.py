"""What a page shows when there is little or nothing to draw yet, and the sidebar's summary of the study."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import streamlit as st

from dashboards import optuna_study, text
from dashboards.source import Study
from dashboards.views.widgets import ORDER
from study.directory import typed
from trainer.errors import UserError


def unreadable(places: Sequence[str], error: UserError | None) -> None:
    """There is no study that can be read (yet) at `places`."""
    st.title("No study to show yet")
    if error is not None:
        st.info(text.in_markdown(str(error)), icon=":material/hourglass_empty:")
    there = "there is a study" if error is None else "that can be read"
    st.text(f"Watching {optuna_study.listed(places)}. The page fills by itself as soon as {there}.")


def ready(study: Study) -> bool:
    """Whether there is a curve to draw; otherwise says what the study is doing and, for failures, why."""
    if study.evaluations.height:
        return True
    st.title(text.in_markdown(study.title))
    failed = study.trials.filter(pl.col("state") == "FAIL")
    begun = study.trials.filter(pl.col("state") != "WAITING")
    if begun.is_empty():
        st.info(
            "The study has begun; its first trial has not. Curves appear here by themselves.",
            icon=":material/hourglass_top:",
        )
    elif study.results.driver is None and "STOPPED" in begun["state"]:
        st.warning(f"The study has stopped before its first evaluation; go on with: {resume(study.results.directory)}",
                   icon=":material/pause_circle:")  # fmt: skip
    elif failed.height == begun.height:
        st.error(f"No trial has come to its first evaluation; {failed.height} failed.", icon=":material/error:")
    else:
        st.info("Trials are running; the first evaluation is not done yet. Curves appear here by themselves.",
                icon=":material/hourglass_top:")  # fmt: skip
    if failed.height:
        st.caption("Why trials failed")
        st.dataframe(failed.select("label", "fail_reason"), hide_index=True)
    return False


def resume(directory: Path) -> str:
    """The command that goes on with a stopped study, for Markdown."""
    return text.in_markdown(typed("resume", directory))


def sidebar(study: Study) -> None:
    """The study's name, its directory and how many trials are in which state."""
    counts = dict(study.trials.group_by("state").len().iter_rows())
    with st.sidebar:
        st.markdown(f"**{text.in_markdown(study.title)}**")
        st.caption(
            " · ".join(f"{counts[state]} {state.lower()}" for state in ORDER if state in counts) or "no trials yet"
        )
        done, total = study.results.ended, study.results.planned
        st.progress(done / total, text=f"{done} of {total} trials finished")
        if study.results.waits is not None:
            st.warning(text.in_markdown(f"{study.results.waits}."), icon=":material/hourglass_top:")
        st.caption(text.in_markdown(str(study.results.directory)))


def failed(error: Exception) -> bool:
    """Show one sentence instead of a traceback when a page fails; the details go to the terminal. Returns True."""
    logging.getLogger(__name__).error("the page failed", exc_info=error)
    st.error(
        "This page could not be drawn; the terminal that runs the dashboard says why. Reload, or open another page."
    )
    return True
