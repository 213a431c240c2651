"""Compare: two trials or more side by side, down to the single problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import streamlit as st

from dashboards import configs, differences, frames, metrics, palette, text
from dashboards.figures import training as panels
from dashboards.figures.problems import solved_map
from dashboards.source import Study
from dashboards.views.length_accuracy import draw
from dashboards.views.widgets import IN_URL, choose_trials, is_dark

if TYPE_CHECKING:
    from trainer.records import SetScore

MOST = 8
PAIRED_HELP = "Problem by problem, at the last step that both evaluated; ± one standard error over problems."
SEED_NOTE = "One training seed each: what the seed does is not in these errors."


def render(study: Study) -> None:
    """Scores against a reference, settings that differ, curves, and problems."""
    st.title("Compare")
    left, middle, right = st.columns([2, 3, 2])
    set_name = left.selectbox("Evaluation set", study.sets, key="set", **IN_URL)
    with middle:
        chosen = choose_trials(study, most=MOST, placeholder="the best trial, the controls and the newest")
    chosen = [number for number in chosen if number in set(study.evaluations["trial"])]
    labels = dict(study.trials.select("trial", "label").iter_rows())
    if len(chosen) < 2:
        st.info("Choose two trials or more that have been evaluated.")
        return
    controls = dict(study.trials.select("trial", "control").iter_rows())
    usual = next((i for i, number in enumerate(chosen) if controls[number]), 0)
    reference = right.selectbox("Against", chosen, index=usual, key="against", format_func=labels.__getitem__, **IN_URL)
    _scores(study, set_name, chosen, reference, labels)
    _settings(study, chosen, labels)
    _curves(study, set_name, chosen, {number: controls[number] for number in chosen})
    _problems(study, set_name, chosen, labels)


def _scores(study: Study, set_name: str, chosen: list[int], reference: int, labels: dict[int, str]) -> None:
    table = differences.against(study.results, set_name, reference, chosen)
    if table.is_empty():
        st.info("The chosen trials have no evaluation of this set.")
        return
    states = study.trials.select("trial", "label", pl.col("state").str.to_lowercase())
    points = pl.col("accuracy", "sampling_error", "difference", "error") * 100
    table = table.join(states, on="trial", maintain_order="left").with_columns(points)
    number, name = st.column_config.NumberColumn, labels[reference]
    columns = {
        "label": st.column_config.TextColumn("trial", pinned=True),
        "state": "state",
        "step": number("at step", help="The last step at which both were evaluated."),
        "accuracy": number("accuracy %", format="%.1f"),
        "sampling_error": number("± sampling", format="%.1f"),
        "difference": number(f"minus {name}, points", format="%+.1f", help=PAIRED_HELP),
        "error": number("± paired", format="%.1f", help=PAIRED_HELP),
        "better": number("better on", help="Problems that it solves more often."),
        "equal": number("equal on", help="Problems that both solve equally often."),
        "worse": number("worse on", help="Problems that it solves less often."),
    }
    shown = table.select(list(columns))
    st.dataframe(
        shown, column_config=columns, hide_index=True, key="scores", placeholder="", alt="Scores and differences"
    )
    missing = len(chosen) - table.height
    without = f" {missing} of the chosen trials have no common evaluation with {name}." if missing else ""
    st.caption(text.in_markdown(SEED_NOTE + without))


def _settings(study: Study, chosen: list[int], labels: dict[int, str]) -> None:
    st.subheader("Settings that differ")
    keys = frames.parameters(study.trials)
    found = {}
    for trial in study.results.trials:
        if trial.number in chosen:
            derived = study.trials.filter(pl.col("trial") == trial.number).select(keys).row(0, named=True)
            found[trial.number] = derived | configs.read(trial) | {"fipo.gamma": derived.get("fipo.gamma")}
    table = configs.differing({labels[number]: found[number] for number in chosen}, first=keys)
    if table.is_empty():
        st.caption("None: the chosen trials have one configuration.")
        return
    st.dataframe(table, hide_index=True, key="settings", alt="Settings that differ between the trials")


def _curves(study: Study, set_name: str, chosen: list[int], controls: dict[int, str | None]) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("Accuracy against length")
        draw(study, set_name=set_name, colour="label", only=chosen, height=420)
    with right:
        st.subheader("Accuracy over steps")
        over_steps = metrics.accuracy(study.results, chosen, set_name)
        quantity = metrics.GROUPS["Accuracy"][0]
        figure = panels.panel(quantity, over_steps, colours=palette.by_trial(controls, is_dark()))
        figure.update_layout(height=420, title=None, margin={"t": 40}, yaxis={"title": quantity.title})
        st.plotly_chart(figure, key="over-steps", config={"displaylogo": False}, alt="Accuracy over training steps")


def _problems(study: Study, set_name: str, chosen: list[int], labels: dict[int, str]) -> None:
    st.subheader("Problem by problem")
    found = differences.solved(study.results, set_name, chosen)
    if found is None:
        st.info("The chosen trials have no evaluation of this set at the same step.")
        return
    step, scores = found
    named = {labels[number]: score for number, score in scores.items()}
    hardest = st.toggle("The hardest first", key="hardest", **IN_URL)
    figure = solved_map(named, hardest_first=hardest, dark=is_dark())
    st.plotly_chart(figure, key="solved", config={"displaylogo": False}, alt="Solved share by trial and problem")
    st.caption(f"At step {step}, the last that all of them evaluated; {_responses(named)}.")
    with st.expander("As a table"):
        problems = min(len(score.solved) for score in scores.values())
        table = pl.DataFrame({"problem": range(1, problems + 1)} | {
            name: [solved / score.samples for solved in score.solved[:problems]] for name, score in named.items()
        })  # fmt: skip
        columns = {
            name: st.column_config.ProgressColumn(f"{name} solved", min_value=0, max_value=1, format="percent")
            for name in named
        }
        st.dataframe(table, column_config=columns, hide_index=True, key="problems", alt="Solved responses per problem")


def _responses(scores: dict[str, SetScore]) -> str:
    """How many responses each problem had; where an evaluation ended early, of which trial."""
    counts = {score.samples for score in scores.values()}
    if len(counts) == 1:
        return f"{counts.pop()} responses per problem"
    fewer = [f"{name} {score.samples}" for name, score in scores.items() if score.samples < max(counts)]
    return text.in_markdown(f"{max(counts)} responses per problem, of {', '.join(fewer)}")
