"""Pruning: which trials were stopped, on what evidence, and what that spared."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import streamlit as st

from dashboards import costs, frames, spans, text
from dashboards.figures.pruning import intermediate_values, timeline
from dashboards.scores import MEASURES
from dashboards.source import Study
from dashboards.thinning import thin
from dashboards.views.opened import clicked, opened
from dashboards.views.trials import RACE
from dashboards.views.widgets import choose_trials, filter_trials, is_dark
from study.budget import devices
from study.costs import drawn_by_racing, spared_by_pruning
from study.tables import counted
from study.time_left import duration

if TYPE_CHECKING:
    from study.spec import Plugin


def render(study: Study) -> None:
    """What was saved in words, the curves that the pruner saw, the pruned trials, and the timeline."""
    st.title("Pruning")
    # What the study maximizes, which need not be avg@k.
    metric = study.results.spec.metric
    evaluations = study.evaluations.with_columns(accuracy=MEASURES[metric])
    if metric != "avg@k":  # means another thing for another k
        evaluations = evaluations.filter(~frames.FEW)
    pruned = costs.pruned(study.trials, evaluations, set_name=study.sets[0], steps=study.steps)
    _summary(study, pruned)
    _race(study)
    _curves(study, evaluations)
    if pruned.height:
        _table(study, pruned)
    if study.trials["started"].drop_nulls().len():
        st.subheader("Timeline")
        ran = spans.spans(study.results, now=datetime.now())
        figure = timeline(study.trials, ran)
        st.plotly_chart(figure, key="timeline", config={"displaylogo": False}, alt="When each trial ran")


def _summary(study: Study, pruned: pl.DataFrame) -> None:
    saved = spared_by_pruning(study.results)
    name = text.in_markdown(study.results.spec.pruner.name)
    if study.results.spec.pruner.name == "none" and pruned.is_empty():
        st.info("The study has no pruner: each trial runs to its last step.")
    elif saved is None and pruned.is_empty():
        st.info("No trial has finished yet.")
    elif pruned.is_empty():
        st.info(f"None of the finished trials was pruned; the pruner is {name}.")
    else:
        by_pruner = pruned["stop_reason"].null_count()
        others = pruned.height - by_pruner
        who = f"**{name}** pruned {counted(by_pruner, 'trial')}" if name != "none" else "The study has no pruner"
        who += f", {others} ended early for another reason" if others else ""
        used = devices(study.results.spec.resources)
        hours = text.number(used.hours(pruned["spared_seconds"].sum()))
        said = f"{who}."
        if saved is not None:  # None where nothing has ended but by hand or by collapse
            share = f"**{text.number(100 * saved)} %** of the steps of the trials that it judged"
            said += f" That spared {share}, about {hours} {used.name}-hours."
        st.markdown(said)


def _race(study: Study) -> None:
    """What racing evaluation saved, where the study has it."""
    selects, found = study.results.spec.selecting, drawn_by_racing(study.results)
    if found is None or not found[1]:
        return
    drawn, whole = found
    st.markdown(
        f"Racing evaluation drew {drawn:,} of the {whole:,} responses that whole evaluations of"
        f" {text.in_markdown(selects.name)} would have drawn: **{100 * (whole - drawn) / whole:.0f} %** saved"
        f" ({selects.first_look} to each problem at first, {selects.samples} at most)."
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
    search = study.trials.filter(frames.SEARCH)["trial"]
    complete = points.filter(pl.col("state") == "COMPLETE", pl.col("trial").is_in(search.implode()), ~frames.FEW)
    median = complete.group_by("step").agg(pl.col("accuracy").median()).sort("step")
    mixed = not points.filter(frames.FEW).is_empty()
    measure = f"{study.sets[0]}/{study.results.spec.metric}" if mixed else study.results.metric_name
    figure = intermediate_values(shown.curves, measure=measure, median=median, ends=shown.ends, dark=is_dark())
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
    used = devices(study.results.spec.resources)
    number = st.column_config.NumberColumn
    table = pruned.with_columns(
        pl.col("accuracy", "others") * 100,
        (pl.col("spared_seconds") / 3600 * used.count).alias("hours"),
        pl.col("seconds", "spared_seconds").map_elements(duration, return_dtype=pl.String),
    )
    columns = {
        "label": st.column_config.TextColumn("trial", pinned=True),
        "pruned_at": number("stopped at step"),
        "accuracy": number("accuracy then %", format="%.1f"),
        "samples": number("k then", help=RACE),
        "others": number("median then %", format="%.1f", help="Of the trials completed by then, at that very step."),
        "compared": number("of trials", help="Trials completed by then, with a whole evaluation at that step."),
        "seconds": "took",
        "spared_steps": number("steps spared"),
        "spared_seconds": st.column_config.TextColumn("time spared", help="At its own pace."),
        "hours": number(f"{used.name}-hours spared", format="%.3g"),
    }
    height = min(38 + 35 * table.height, 420)
    st.dataframe(table.select(list(columns)), column_config=columns, hide_index=True, key="pruned", height=height,
                 placeholder="", alt="Pruned trials")  # fmt: skip
    st.caption("Why they were stopped")
    name = study.results.spec.pruner.name
    words = pl.Series([_why(row, name) for row in pruned.iter_rows(named=True)], dtype=pl.String)
    columns = {"label": st.column_config.TextColumn("trial", width=124)}
    st.dataframe(pruned.select("label", why=words), column_config=columns, hide_index=True, key="why", height=height,
                 alt="Why trials were pruned")  # fmt: skip
    if pruned["pruner_reason"].count():
        st.caption(_aime(study.results.spec.pruner))


def _why(row: dict[str, Any], pruner: str) -> str:
    """Why a trial of `costs.pruned` ended: by hand or collapsed, in the words of its pruner, else what that saw."""
    if row["stop_reason"]:
        return str(row["stop_reason"])
    if row["pruner_reason"]:
        return f"step {row['pruned_at']}: {row['pruner_reason']}"
    now, best = text.accuracy(row["accuracy"]), text.accuracy(row["highest"])
    own = f"{pruner}: {now} at step {row['pruned_at']}, {best} at best"
    if row["others"] is None:
        return f"{own}; no completed trial to compare with"
    return f"{own}; median of {row['compared']} completed trials {text.accuracy(row['others'])}"


def _aime(pruner: Plugin) -> str:
    """How to read the words of the pruner `aime`, also where another one wraps it."""
    options = pruner.options if pruner.name == "aime" else pruner.options.get("wrapped_pruner", {})
    most, level, patience = (options.get(key, "?") for key in ("references", "level", "patience"))
    return (
        "Of the pruner aime, as fractions: gap, the trial minus the mean of the completed trials that ended best (at"
        f" most {most}, problem by problem at that step); forecast, the same at the last step; P, the chance to end"
        f" worse than they by more than the margin. It prunes where P is above {level} at {patience} evaluations in a"
        " row."
    )
