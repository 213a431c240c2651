"""Compare: two trials or more side by side, down to the single problem."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards import differences, frames, text
from dashboards.source import Study
from dashboards.views.length_accuracy import draw
from dashboards.views.widgets import IN_URL, choose_trials


def render(study: Study) -> None:
    """Settings that differ, both curves, and the paired difference of the first two trials problem by problem."""
    st.title("Compare")
    set_name = st.selectbox("Evaluation set", study.sets, key="set", **IN_URL)
    chosen = choose_trials(study, most=6, placeholder="the best trial, the controls and the newest")
    table = frames.summary(study.trials, study.evaluations, set_name=set_name).filter(pl.col("trial").is_in(chosen))
    if table.height < 2:
        st.info("Choose two trials or more.")
        return
    st.subheader("Settings")
    keys = [key for key in frames.parameters(study.trials) if table[key].n_unique() > 1]
    labels = dict(study.trials.select("trial", "label").iter_rows())
    settings = {"parameter": [text.label(key) for key in keys]}
    for number in chosen:
        row = table.row(by_predicate=pl.col("trial") == number, named=True)
        settings[labels[number]] = [text.number(row[key]) for key in keys]
    st.dataframe(pl.DataFrame(settings), hide_index=True, key="settings", alt="Settings that differ between the trials")
    st.subheader("Length-accuracy")
    draw(study, set_name=set_name, colour=None, only=chosen, height=420)
    _problems(study, set_name, chosen[0], chosen[1], labels)


def _problems(study: Study, set_name: str, first: int, second: int, labels: dict[int, str]) -> None:
    st.subheader("Problem by problem")
    pair = frames.latest_common(study.results, set_name, first, second)
    if pair is None:
        st.info("These two trials have no evaluation of this set at the same step.")
        return
    step, one, other = pair
    gap = differences.paired(one, other)
    error = f" ± {100 * gap.error:.1f}" if gap.error is not None else ""
    names = text.in_markdown(labels[first]), text.in_markdown(labels[second])
    st.markdown(
        f"At step {step}, {names[0]} minus {names[1]}: **{100 * gap.difference:+.1f}{error} points** (one standard"
        f" error over {gap.problems} paired problems). One training seed each: the seed's own effect is not in it."
    )
    columns = {
        "first": st.column_config.ProgressColumn(
            f"{labels[first]} solved", min_value=0, max_value=one.samples, format="%d"
        ),
        "second": st.column_config.ProgressColumn(
            f"{labels[second]} solved", min_value=0, max_value=other.samples, format="%d"
        ),
        "difference": st.column_config.NumberColumn("difference", format="percent"),
    }
    st.dataframe(
        differences.per_problem(one, other),
        column_config=columns,
        hide_index=True,
        key="problems",
        alt="Solved per problem",
    )
