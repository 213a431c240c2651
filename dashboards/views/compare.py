"""Compare: two trials or more side by side, down to the single problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl
import streamlit as st

from dashboards import configs, differences, frames, metrics, palette, text
from dashboards.figures import training as panels
from dashboards.figures.parameters import LEGEND
from dashboards.figures.problems import solved_map
from dashboards.source import Study
from dashboards.views.length_accuracy import draw
from dashboards.views.trials import in_points, without_error
from dashboards.views.widgets import IN_URL, choose_trials, is_dark
from study.paired import FEWEST, common

if TYPE_CHECKING:
    from trainer.records import SetScore

MOST = 8
PAIRED_HELP = f"""Problem by problem, at that step; ± one standard error over problems. Where fewer than
{FEWEST} differ there is none: the counts of better and worse say all."""
USUAL = "complete ones: the best and the controls"
SEED_NOTE = "One training seed each: what the seed does is not in these errors."


def render(study: Study) -> None:
    """Scores against a reference, settings that differ, curves, and problems."""
    st.title("Compare")
    left, middle, right = st.columns([2, 3, 2])
    set_name = left.selectbox("Evaluation set", study.sets, key="set", **IN_URL)
    with middle:
        chosen = choose_trials(study, most=MOST, placeholder=USUAL, complete=True)
    known = study.evaluations.filter((pl.col("set") == set_name) & (pl.col("step") > 0))
    untold = [number for number in chosen if number not in set(known["trial"])]
    chosen = [number for number in chosen if number not in untold]
    labels = dict(study.trials.select("trial", "label").iter_rows())
    if untold:
        names = ", ".join(labels[number] for number in untold)
        st.info(text.in_markdown(f"Left out, for want of an evaluation of {set_name} after a training step: {names}."))
    found = common(study.results, set_name, chosen)
    if len(chosen) < 2 or found is None:
        st.info("Choose two trials or more that have been evaluated at one training step.")
        return
    controls = dict(study.trials.select("trial", "control").iter_rows())
    usual = next((i for i, number in enumerate(chosen) if controls[number]), 0)
    reference = right.selectbox("Against", chosen, index=usual, key="against", format_func=labels.__getitem__, **IN_URL)
    _said(study, known.filter(pl.col("trial").is_in(chosen)), found[0], labels)
    _scores(study, found[1], reference, labels)
    _settings(study, chosen, labels)
    _curves(study, set_name, chosen, {number: controls[number] for number in chosen})
    _problems(found, labels)


def _said(study: Study, evaluations: pl.DataFrame, step: int, labels: dict[int, str]) -> None:
    """At which step the trials are compared, and for the sake of which ones, where others went on."""
    last = evaluations.group_by("trial", maintain_order=True).agg(pl.col("step").max())
    states = dict(study.trials.select("trial", "state").iter_rows())
    early = [f"{labels[trial]} ({states[trial].lower()})" for trial, end in last.iter_rows() if end == step]
    said = f"Compared at training step {step}, the last that all of them evaluated"
    if last["step"].max() > step:
        came = "came" if len(early) > 1 else "comes"
        st.warning(text.in_markdown(f"{said}: {', '.join(early)} {came} no further. Leave out what ended early to"
                                    " compare the others at their end."), icon=":material/content_cut:")  # fmt: skip
    else:
        st.markdown(f"{said}.")


def _scores(study: Study, scores: Mapping[int, SetScore], reference: int, labels: dict[int, str]) -> None:
    table = differences.against(scores, reference)
    states = study.trials.select("trial", "label", pl.col("state").str.to_lowercase())
    table = table.join(states, on="trial", maintain_order="left")
    saturated, table = without_error(table), in_points(table)
    number, name = st.column_config.NumberColumn, labels[reference]
    columns = {
        "label": st.column_config.TextColumn("trial", pinned=True),
        "state": "state",
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
    missing = len(scores) - table.height
    few = f" No ± paired where fewer than {FEWEST} problems differ." if table["error"].null_count() > 1 else ""
    without = f" {missing} of the chosen trials were evaluated on other problems than {name}." if missing else ""
    st.caption(text.in_markdown(SEED_NOTE + few + without) + (f" {saturated}" if saturated else ""))


def _settings(study: Study, chosen: list[int], labels: dict[int, str]) -> None:
    st.subheader("Settings that differ")
    keys = frames.parameters(study.trials)
    found = {}
    for trial in study.results.trials:
        if trial.number in chosen:
            row = study.trials.row(by_predicate=pl.col("trial") == trial.number, named=True)
            derived = {key: row[key] for key in keys}
            found[trial.number] = derived | configs.read(trial) | {"fipo.gamma": derived.get("fipo.gamma")}
    table = configs.differing({labels[number]: found[number] for number in sorted(chosen)}, first=keys)
    if table.is_empty():
        st.caption("None: the chosen trials have one configuration.")
        return
    st.dataframe(table, hide_index=True, key="settings", alt="Settings that differ between the trials")


def _curves(study: Study, set_name: str, chosen: list[int], controls: dict[int, str | None]) -> None:
    left, right = st.container(key="pair").columns(2)
    with left:
        st.subheader("Accuracy against length")
        draw(study, set_name=set_name, colour="label", only=chosen, height=420)
    with right:
        st.subheader("Accuracy over steps")
        over_steps = metrics.accuracy(study.results, chosen, set_name)
        quantity = metrics.GROUPS["Accuracy"][0]
        dashes = palette.control_dashes(number for number, control in controls.items() if control)
        colours = palette.by_trial(controls, is_dark())
        few = study.evaluations.filter(frames.FEW, pl.col("set") == set_name, pl.col("trial").is_in(chosen))
        figure = panels.panel(quantity, over_steps, colours=colours, controls=dashes, few=few)
        figure.for_each_trace(lambda line: line.update(name=f"control {line.name}") if line.meta in dashes else None)
        figure.update_layout(height=420, title=None, margin={"t": 40}, yaxis={"title": quantity.title}, showlegend=True,
                             legend=LEGEND)  # fmt: skip
        st.plotly_chart(figure, key="over-steps", config={"displaylogo": False}, alt="Accuracy over training steps")
        if not few.is_empty():
            st.caption(f"Hollow: {frames.k_in_words(few)} responses.")


def _problems(found: tuple[int, dict[int, SetScore]], labels: dict[int, str]) -> None:
    st.subheader("Problem by problem")
    step, scores = found
    named = {labels[number]: score for number, score in scores.items()}
    hardest = st.toggle("The hardest first", key="hardest", **IN_URL)
    figure = solved_map(named, hardest_first=hardest, dark=is_dark())
    st.plotly_chart(figure, key="solved", config={"displaylogo": False}, alt="Solved share by trial and problem")
    st.caption(f"At training step {step}; {_responses(named)}.")
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
