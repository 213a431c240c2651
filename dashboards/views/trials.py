"""The table of trials, shared by the pages that list them."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards import frames, text
from dashboards.scores import MEASURES
from dashboards.source import Study
from trainer import saturation

SAMPLING = (
    "One standard error from drawing k responses of these very problems, in points: compares trials of this study."
)
ACCURACY = "avg@k at the newest evaluation"
RACE = "Responses per problem; fewer than planned where the pruner had seen enough."
RANK = (
    "In the order of rank: first those that fresh seeds confirm, in the order of their means, then by single runs,"
    " which are high by luck too; the numbers are of each trial's own run."
)
PROBLEMS = "One standard error from drawing these problems too, in points: what other problems would give."


def trials_table(study: Study, set_name: str, *, only: list[int] | None = None) -> None:
    """One row per trial: on the set that selects those that are ranked in their order, then by value, and at the end
    what confirms another. Sortable in the browser, cells are plain text."""
    # gamma and half-life are one quantity: one column is enough where there is no room.
    keys = [key for key in frames.parameters(study.trials) if key in study.results.spec.space]
    table = frames.summary(study.trials, study.evaluations, set_name=set_name).with_columns(
        pl.col("state").str.to_lowercase(),
        pl.col("mean_length").round(1),
        pl.coalesce("fail_reason", "stop_reason").alias("why"),
    )
    found = study.results.evidence if set_name == study.sets[0] else []
    ranks = {each.number: rank for rank, each in enumerate(found)}
    by_rank = pl.Series([ranks.get(number, len(ranks)) for number in table["trial"]])
    table = table.sort(by_rank, pl.col("confirms").is_not_null(), maintain_order=True)
    if only is not None:
        table = table.filter(pl.col("trial").is_in(only))
    saturated, table = without_error(table), in_points(table)
    metric = study.results.spec.metric
    chosen_by = [] if metric == "avg@k" else [MEASURES[metric]]
    number, words = st.column_config.NumberColumn, st.column_config.TextColumn
    columns = {
        "label": words("trial", pinned=True, width=82 if (table["label"].str.len_chars().max() or 0) <= 10 else 124),
        "state": words("state", width=76),
        "steps_done": st.column_config.ProgressColumn(
            "steps", min_value=0, max_value=study.steps, format="%d", width=90
        ),
        **{key: number(f"{metric} %", format="%.1f", width=84, help="What the study maximizes.") for key in chosen_by},
        "accuracy": number(f"{'avg@k' if chosen_by else 'accuracy'} %", format="%.1f", width=84, help=ACCURACY),
        "samples": number("k", width=40, help=RACE),
        "sampling_error": number("± sampl.", format="%.1f", width=72, help=SAMPLING),
        "problem_error": number("± probl.", format="%.1f", width=70, help=PROBLEMS),
        "mean_length": number("tokens", format="localized", width=66, help="Mean response length."),
        "growth": number("× base", format="%.2f", width=64, help="Mean length over that of the base model."),
        **{
            key: number(text.column(key), format=_format(table[key]), width=88, help=text.label(key))
            for key in keys
            if table[key].dtype.is_numeric()
        },
    }
    samples = ["samples"] if table["samples"].drop_nulls().n_unique() > 1 else []
    order = ["label", "state", "steps_done", *chosen_by, "accuracy", *samples, "sampling_error", "problem_error"]
    order += ["mean_length", "growth", *keys]
    st.dataframe(
        table.select(order), column_config=columns, hide_index=True, key=f"table-{set_name}", alt="Trials of the study",
        height=min(38 + 35 * max(table.height, 1), 600), placeholder="",
    )  # fmt: skip
    if saturated:
        st.caption(saturated)
    if any(each.tested for each in found):
        st.caption(RANK)
    early = table.drop_nulls("why").select("label", "state", "why")
    if early.height:
        st.caption("Why trials ended before their last step")
        names = {"label": words("trial", width=136), "state": words("state", width=76), "why": words("reason")}
        st.dataframe(
            early, column_config=names, hide_index=True, key=f"early-{set_name}", alt="Trials that ended early"
        )


def in_points(table: pl.DataFrame) -> pl.DataFrame:
    """Accuracies and errors in per cent and points; an error of 0 is none."""
    errors = [name for name in ("sampling_error", "problem_error", "error") if name in table.columns]
    shown = [name for name in (*MEASURES.values(), "difference") if name in table.columns]
    return table.with_columns(pl.col(shown) * 100, pl.when(pl.col(errors) > 0).then(pl.col(errors)).name.keep() * 100)


def without_error(table: pl.DataFrame, *, most: int = 4) -> str:
    """What is known, for want of a sampling error, of the trials that solved each problem always or never.

    Args:
        table: with columns label, accuracy, sampling_error, problems and samples.
        most: trials to name.
    """
    found = table.filter(pl.col("sampling_error") == 0)
    if found.is_empty():
        return ""
    said = [
        f"{label} {saturation.in_words(accuracy, problems=problems, samples=samples)}"
        for label, accuracy, problems, samples in found.select("label", "accuracy", "problems", "samples")
        .head(most)
        .rows()
    ]
    others = f", and {found.height - most} more" if found.height > most else ""
    return text.in_markdown(
        "No sampling error where every problem was solved always or never, for that shows no spread. 95 % sure: "
        + ", ".join(said) + others + "."
    )  # fmt: skip


def _format(values: pl.Series) -> str:
    """Three digits, with an exponent for rates, whose zeros after the point no one counts; whole ones as they are."""
    if (values.drop_nulls() % 1 == 0).all() and (values.abs().max() or 0) < 1e6:
        return "%d"
    return "%.2e" if (values.abs().max() or 0) < 1e-2 and (values.abs().min() or 0) > 0 else "%.3g"
