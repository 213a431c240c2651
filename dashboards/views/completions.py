"""Completions: what the model wrote in training, and where FIPO put the credit in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st

from dashboards import completions, text
from dashboards.figures.credit import credit
from dashboards.source import Study
from dashboards.views.widgets import IN_URL, anew, is_dark
from trainer.errors import UserError

ALL = "all that were kept"
SHORT, PART = 2000, 4000
"""Tokens that all responses to a problem may have together to be shown at once, and that are shown of one at a time."""
HELP = """Each token is coloured by its influence weight f, by which FIPO multiplies the advantage, as the policy after
this step's update gives it. log-ratio: log probability after the update minus before. The responses are of the step's
last minibatch, where the loss had the weights of one optimizer step earlier. The colours' scale is the study's: the
range that it clips f to."""


def render(study: Study) -> None:
    """Choose trial, step, problem and response; then the responses with their tokens coloured."""
    st.title("Completions")
    folders = _folders(study)
    if not folders:
        st.info("No trial has kept a completion yet; evaluation.completions says how many are kept at each evaluation.")
        return
    labels = dict(study.trials.select("trial", "label").iter_rows())
    first, second, third, last = st.columns([2, 2, 4, 3])
    best = study.results.best
    usual = anew(study, "trial", best.number if best and best.number in folders else next(iter(folders)))
    trial = _choose(first, "Trial", list(folders), usual, key="trial", format_func=labels.__getitem__)
    steps = completions.steps(folders[trial])
    step = _choose(second, "Training step", steps, steps[-1], key="step")
    try:
        responses = completions.read(folders[trial], step)
    except UserError as error:
        st.error(text.in_markdown(str(error)))
        return
    if responses.is_empty():
        st.info("No response was kept at this step.")
        return
    problems = responses["problem"].unique(maintain_order=True).to_list()
    lines = [_line(i, each) for i, each in enumerate(problems, start=1)]
    problem = problems[lines.index(_choose(third, "Problem", lines, lines[0], key="problem"))]
    rows = responses.filter(pl.col("problem") == problem).rows(named=True)
    names = [_name(i, row) for i, row in enumerate(rows, start=1)]
    together = len(rows) > 1 and sum(row["length"] for row in rows) <= SHORT
    options = [ALL, *names] if len(rows) > 1 else names
    chosen = _choose(last, "Response", options, ALL if together else names[0], key="response")
    st.caption("Problem")
    st.text(problem)
    st.caption(f"Answer: {text.in_markdown(str(rows[0]['answer']))}")
    scale = completions.clip_range(study.results.spec)
    for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1):
        if chosen in (ALL, name):
            _response(row, number, scale)


def _choose(column: Any, name: str, options: list[Any], usual: Any, *, key: str, **more: Any) -> Any:
    """A selectbox whose options depend on the widgets before it: what they no longer have gives way to `usual`, which
    Streamlit sees to, and tells the browser."""
    return column.selectbox(name, options, index=options.index(usual), key=key, **more, **IN_URL)


def _folders(study: Study) -> dict[int, Path]:
    """Directories by trial number of the trials that have completions and lie inside the study."""
    home = study.results.directory.resolve()
    own = {each.number: each.directory.resolve() for each in study.results.trials if each.started}
    return {number: path for number, path in own.items() if path.is_relative_to(home) and completions.steps(path)}


def _line(i: int, problem: str) -> str:
    """The number and the beginning of a problem, in one line that also stands in the address."""
    flat = " ".join(problem.split())
    return f"{i}. {flat if len(flat) <= 60 else f'{flat[:59]}…'}"


def _name(i: int, row: dict[str, Any]) -> str:
    return f"{i}: {'correct' if row['correct'] else 'wrong'}, advantage {row['advantage']:+.2f}"


def _response(row: dict[str, Any], number: int, scale: tuple[float, float]) -> None:
    tokens = completions.tokens(row)
    weights = tokens["influence_weight"].drop_nans()
    moved = not (weights == 1).all()
    advantage = float(row["advantage"])
    with st.container(border=True):
        graded = f"graded {row['prediction']}" if row["prediction"] is not None else "no answer found"
        ended = "" if row["finished"] else ", cut at the limit"
        facts = (
            f"{graded}, reward {text.number(row['reward'])}, advantage {advantage:+.3f}, {row['length']} tokens{ended}"
        )
        icon = ":green[:material/check:]" if row["correct"] else ":red[:material/close:]"
        verdict = "correct" if row["correct"] else "wrong"
        st.markdown(f"{icon} **Response {number}, {verdict}**: {text.in_markdown(facts)}", help=HELP)
        if advantage == 0:
            st.info("Its advantage is 0, so no weight changes anything: every response to this problem had one reward.")
        part = _part(tokens, number)
        if moved:
            st.html(completions.legend(scale))
            st.caption(f"Of this response, f lies between {weights.min():.4f} and {weights.max():.4f}.")
        else:
            st.caption("Every influence weight is 1: FIPO changes nothing in this response.")
        st.html(completions.coloured(part, advantage=advantage, scale=scale))
        if moved:
            figure = credit(part, dark=is_dark())
            alt = f"Influence weight of each token of response {number}"
            st.plotly_chart(figure, key=f"credit-{number}", config={"displayModeBar": False}, alt=alt)
        with st.expander("The tokens as a table"):
            columns = {
                "influence_weight": st.column_config.NumberColumn("influence weight f", format="%.5f"),
                "log_ratio": st.column_config.NumberColumn("log-ratio", format="%.6f"),
            }
            key = f"tokens-{number}"
            st.dataframe(tokens, column_config=columns, hide_index=True, key=key, alt="Tokens and weights")


def _part(tokens: pl.DataFrame, number: int) -> pl.DataFrame:
    """All tokens, or of a long response the part that is chosen: a browser takes seconds for tens of thousands."""
    if tokens.height <= PART:
        return tokens
    starts = list(range(0, tokens.height, PART))
    start = st.selectbox(
        "Tokens", starts, key=f"part-{number}",
        format_func=lambda at: f"{at + 1:,} to {min(at + PART, tokens.height):,} of {tokens.height:,}",
    )  # fmt: skip
    return tokens.slice(start, PART)
