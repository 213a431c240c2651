"""Completions: what the model wrote in training, and where FIPO put the credit in it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import streamlit as st

from dashboards import completions, text
from dashboards.source import Study
from dashboards.views.widgets import IN_URL
from trainer.errors import UserError

HELP = """Each token is coloured by its influence weight f, by which FIPO multiplies the advantage. log-ratio: log
probability after this step's update minus before. The scale is this response's own: its ends are beside the bar."""


def render(study: Study) -> None:
    """Choose trial, step and response; then the response with its tokens coloured."""
    st.title("Completions")
    folders = _folders(study)
    if not folders:
        st.info("No trial has kept a completion yet; evaluation.completions says how many are kept at each evaluation.")
        return
    labels = dict(study.trials.select("trial", "label").iter_rows())
    left, middle, right = st.columns([1, 1, 2])
    best = study.results.best
    numbers = list(folders)
    usual = numbers.index(best.number) if best and best.number in folders else 0
    trial = left.selectbox("Trial", numbers, index=usual, key="trial", format_func=labels.__getitem__, **IN_URL)
    steps = completions.steps(folders[trial])
    step = middle.selectbox("Training step", steps, index=len(steps) - 1, key=f"step-{trial}")
    try:
        responses = completions.read(folders[trial], step)
    except UserError as error:
        st.error(text.in_markdown(str(error)))
        return
    if responses.is_empty():
        st.info("No response was kept at this step.")
        return
    rows = responses.rows(named=True)
    row = rows[right.selectbox("Response", range(len(rows)), format_func=lambda i: _name(rows[i]), key="response")]
    _response(row)


def _folders(study: Study) -> dict[int, Path]:
    """Directories by trial number of the trials that have completions and lie inside the study."""
    home = study.results.directory.resolve()
    own = {each.number: each.directory.resolve() for each in study.results.trials if each.started}
    return {number: path for number, path in own.items() if path.is_relative_to(home) and completions.steps(path)}


def _name(row: dict[str, object]) -> str:
    verdict = "correct" if row["correct"] else "wrong"
    return f"{verdict}, advantage {row['advantage']:+.2f}: {row['problem']}"


def _response(row: dict[str, object]) -> None:
    st.caption("Problem")
    st.text(str(row["problem"]))
    facts = {
        "answer": str(row["answer"]),
        "graded": str(row["prediction"]) if row["prediction"] is not None else "no answer found",
        "correct": "yes" if row["correct"] else "no",
        "reward": text.number(row["reward"]),
        "advantage": f"{row['advantage']:+.3f}",
        "length (tokens)": str(row["length"]),
        "ended by itself": "yes" if row["finished"] else "no, cut at the limit",
    }
    st.dataframe(pl.DataFrame([facts]), hide_index=True, key="facts", alt="What the response was worth")
    st.caption("Response, each token coloured by its influence weight", help=HELP)
    tokens = completions.tokens(row)
    reach = completions.reach(tokens)
    st.html(completions.legend(reach))
    if row["advantage"] == 0:
        st.info("Its advantage is 0, so no weight changes anything: every response to this problem had one reward.")
    with st.container(border=True):
        st.html(completions.coloured(tokens, advantage=float(row["advantage"]), reach=reach))  # type: ignore[arg-type]
    with st.expander("The tokens as a table"):
        columns = {
            "influence_weight": st.column_config.NumberColumn("influence weight f", format="%.5f"),
            "log_ratio": st.column_config.NumberColumn("log-ratio", format="%.6f"),
        }
        st.dataframe(tokens, column_config=columns, hide_index=True, key="tokens", alt="Tokens and their weights")
