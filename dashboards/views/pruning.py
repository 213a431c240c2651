"""Pruning: which trials were stopped, on what evidence, and what that spared."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import streamlit as st

from dashboards import costs, frames, text
from dashboards.figures.pruning import intermediate_values, timeline
from dashboards.scores import MEASURES
from dashboards.source import Study
from dashboards.thinning import thin
from dashboards.views.opened import clicked, opened
from dashboards.views.trials import RACE
from dashboards.views.widgets import choose_trials, filter_trials, is_dark


def render(study: Study) -> None:
    """What was saved in words, the curves that the pruner saw, the pruned trials, and the timeline."""
    st.title("Pruning")
    # What the study maximizes, which need not be avg@k.
    evaluations = study.evaluations.with_columns(accuracy=MEASURES[study.results.spec.metric])
    pruned = costs.pruned(study.trials, evaluations, set_name=study.sets[0], steps=study.steps)
    _summary(study, pruned)
    _curves(study, evaluations)
    if pruned.height:
        _table(study, pruned)
    if study.trials["started"].drop_nulls().len():
        st.subheader("Timeline")
        spent = costs.run_seconds(study.trials, study.evaluations)
        figure = timeline(study.trials, spent, now=datetime.now(), concurrency=study.results.spec.concurrency)
        st.plotly_chart(figure, key="timeline", config={"displaylogo": False}, alt="When each trial ran")


def _summary(study: Study, pruned: pl.DataFrame) -> None:
    saved = costs.saved_by_pruning(study.trials, steps=study.steps)
    name = text.in_markdown(study.results.spec.pruner.name)
    if saved is None:
        st.info("No trial has finished yet.")
    elif pruned.is_empty():
        st.info(f"None of the finished trials was pruned; the pruner is {name}.")
    else:
        by_pruner = pruned["stop_reason"].null_count()
        others = pruned.height - by_pruner
        who = f"**{name}** pruned {by_pruner} trials" + (f", {others} ended for another reason" if others else "")
        devices = costs.devices(study.results.spec.resources)
        hours = text.number(devices.hours(pruned["spared_seconds"].sum()))
        st.markdown(
            f"{who}. That spared **{text.number(100 * saved)} %** of the finished trials' steps,"
            f" about {hours} {devices.name}-hours."
        )


def _curves(study: Study, evaluations: pl.DataFrame) -> None:
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        chosen = choose_trials(study, placeholder="all that the filters leave")
    with right:
        filtered = filter_trials(study)
    points = frames.curves(
        study.trials, evaluations, set_name=study.sets[0], error=None, only=chosen or filtered.trials,
        steps=filtered.steps,
    )  # fmt: skip
    if points.is_empty():
        st.info("The chosen trials have no evaluation in these steps.")
        return
    shown = thin(points, best=study.results.best.number if study.results.best else None)
    complete = points.filter(pl.col("state") == "COMPLETE")
    median = complete.group_by("step").agg(pl.col("accuracy").median()).sort("step")
    figure = intermediate_values(
        shown.curves, measure=study.results.metric_name, median=median, ends=shown.ends, dark=is_dark()
    )
    event = st.plotly_chart(
        figure, key="intermediate", config={"displaylogo": False}, alt="Accuracy over training steps by trial",
        on_select="rerun", selection_mode="points",
    )  # fmt: skip
    number = clicked(event)
    if number is not None:
        opened(study, number, study.sets[0])
    if shown.sentence:
        st.caption(shown.sentence)


def _table(study: Study, pruned: pl.DataFrame) -> None:
    st.subheader("Pruned trials")
    devices = costs.devices(study.results.spec.resources)
    number = st.column_config.NumberColumn
    table = pruned.with_columns(
        pl.col("accuracy", "others") * 100,
        pl.col("stop_reason").fill_null(f"pruner {study.results.spec.pruner.name}"),
        (pl.col("spared_seconds") / 3600 * devices.count).alias("hours"),
        pl.col("seconds", "spared_seconds").map_elements(text.duration, return_dtype=pl.String),
    )
    columns = {
        "label": st.column_config.TextColumn("trial", pinned=True),
        "pruned_at": number("stopped at step"),
        "accuracy": number("accuracy then %", format="%.1f"),
        "samples": number("k then", help=RACE),
        "others": number("median then %", format="%.1f", help="Of the complete trials at that very step."),
        "compared": number("of trials", help="Complete trials with an evaluation at that step."),
        "seconds": "took",
        "spared_steps": number("steps spared"),
        "spared_seconds": st.column_config.TextColumn("time spared", help="At its own pace."),
        "hours": number(f"{devices.name}-hours spared", format="%.3g"),
        "stop_reason": st.column_config.TextColumn("why", width="medium"),
    }
    height = min(38 + 35 * table.height, 420)
    st.dataframe(table.select(list(columns)), column_config=columns, hide_index=True, key="pruned", height=height,
                 placeholder="", alt="Pruned trials")  # fmt: skip
