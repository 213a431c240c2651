"""Overview: the best configuration with both errors, progress, what pruning saved, and every trial."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards import frames, text
from dashboards.source import Study
from dashboards.views.length_accuracy import draw
from dashboards.views.trials import trials_table


def render(study: Study) -> None:
    """Numbers first, then the length-accuracy chart, then every trial."""
    st.title(text.in_markdown(study.results.spec.name))
    keys = frames.parameters(study.trials)
    selected, reported, length, progress = st.columns(4)
    _best(study, selected, reported, length)
    _progress(study, progress)
    if study.results.best:
        params = study.results.best.params
        values = (
            f"{text.in_markdown(text.label(key))} **{text.in_markdown(text.number(params[key]))}**"
            for key in keys
            if key in params
        )
        st.markdown(f"Best configuration (#{study.results.best.number}): " + " · ".join(values))
    draw(study, set_name=study.sets[0], colour=keys[0] if keys else None, height=460)
    st.subheader("Trials")
    trials_table(study, study.sets[0])


def _best(study: Study, selected: DeltaGenerator, reported: DeltaGenerator, length: DeltaGenerator) -> None:
    """The best trial on the set that chose it and, where there is one, on a set that did not."""
    best = study.results.best
    if best is None:
        _card(selected, "Best trial", "none yet", None, "A trial counts once it has run to its last step.")
        return
    for column, name in zip((selected, reported), study.sets, strict=False):
        scores = frames.newest(study.evaluations, name).filter(pl.col("trial") == best.number)
        for row in scores.iter_rows(named=True):
            selects = name == study.sets[0]
            _score(column, row, "selects" if selects else "reports", study.trials.height)
            if selects:
                growth = f"{row['growth']:.2f} × base model" if row["growth"] else None
                _card(length, f"#{best.number}, mean length", f"{row['mean_length']:,.1f} tokens", growth)


def _score(column: DeltaGenerator, row: dict[str, Any], role: str, candidates: int) -> None:
    why = {
        "selects": f"This set chose the best of {candidates} trials, so its accuracy is somewhat lucky.",
        "reports": "This set chose nothing, so its accuracy is not flattered.",
    }[role]
    _card(
        column,
        f"#{row['trial']}, avg@{row['samples']} on {row['set']}",
        text.accuracy(row["accuracy"]),
        text.errors(row["sampling_error"], row["problem_error"]),
        f"{row['problems']} problems × {row['samples']} responses, ± one standard error. {why}",
    )


def _progress(study: Study, column: DeltaGenerator) -> None:
    planned = max(study.results.spec.trials, study.trials.height)
    finished = study.trials.filter(pl.col("state").is_in(frames.FINISHED)).height
    left = frames.seconds_left(study.trials, planned=planned, concurrency=study.results.spec.concurrency)
    saved = frames.saved_by_pruning(study.trials, steps=study.steps)
    note = f"about {text.duration(left)} left" if left else None
    if saved is not None and not left:
        note = f"pruning saved {100 * saved:.0f} % of steps"
    failed = study.trials.filter(pl.col("state") == "FAIL").height
    why = "Complete, pruned and failed trials count." + (f" {failed} failed." if failed else "")
    _card(column, "Trials finished", f"{finished} of {planned}", note, why)


def _card(column: DeltaGenerator, name: str, value: str, note: str | None, explanation: str | None = None) -> None:
    column.metric(
        text.in_markdown(name), value, note, help=explanation, delta_arrow="off", delta_color="off", border=True
    )
