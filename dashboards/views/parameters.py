"""Hyperparameters: what gamma, the influence bounds and the rest do, and whether the differences mean anything."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards import differences, frames, text
from dashboards import importance as importances
from dashboards.figures import parameters as figures
from dashboards.source import Study
from dashboards.views.widgets import IN_URL, is_dark


def render(study: Study) -> None:
    """The verdict in words first, then slices, the plane of two parameters, and importance on demand."""
    st.title("Hyperparameters")
    summary = frames.summary(study.trials, study.evaluations, set_name=study.sets[0])
    keys = frames.parameters(study.trials)
    _verdict(summary)
    if not keys:
        st.info("No parameter has taken two values yet.")
        return
    st.subheader("One at a time")
    shown = [key for key in keys if key != "fipo.gamma" or "fipo.half_life" not in keys]
    st.caption("Pruned trials show the accuracy at which they were stopped, after fewer steps than complete ones.")
    st.plotly_chart(figures.slices(summary, shown, dark=is_dark()), key="slices", alt="Accuracy against each parameter")
    if len(keys) > 1:
        st.subheader("Two together")
        left, right = st.columns(2)
        x = left.selectbox("Across", keys, key="x", format_func=text.label, **IN_URL)
        others = [key for key in keys if key != x]
        usual = "fipo.epsilon_f_high" if "fipo.epsilon_f_high" in others else others[0]
        y = right.selectbox("Up", others, index=others.index(usual), key="y", format_func=text.label, **IN_URL)
        st.plotly_chart(figures.pair(summary, x, y, dark=is_dark()), key="pair", alt="Accuracy over two parameters")
    _importance(study)


def _verdict(summary: pl.DataFrame) -> None:
    complete = summary.filter(pl.col("state") == "COMPLETE")
    spread = differences.spread(complete)
    if spread is None:
        st.info("Fewer than two complete trials with an error: differences cannot be judged yet.")
    elif spread.beyond_sampling:
        st.info(
            f"{spread.trials} complete trials differ by more than sampling error ({text.probability(spread.p)}). Each"
            " trial ran with one seed, which moves accuracy too: repeat what you choose with fresh seeds."
        )
    else:
        st.warning(
            f"{spread.trials} complete trials do not differ beyond sampling error ({text.probability(spread.p)}):"
            " no setting shown here is better than another."
        )


def _importance(study: Study) -> None:
    st.subheader("Importance")
    usable = len(importances.usable(study.results))
    if usable < importances.FEWEST:
        st.caption(f"Needs {importances.FEWEST} complete trials; there are {usable}.")
        return
    if not st.toggle("Compute (fANOVA and PED-ANOVA)", key="importance", **IN_URL):
        return
    share = _cached(study.results, tuple((trial.number, trial.value) for trial in importances.usable(study.results)))
    st.plotly_chart(figures.importances(share), key="importances", alt="Importance of each parameter")
    st.caption(f"From {usable} complete trials; pruned ones are left out, so what pruning caught looks less important.")


@st.cache_data(max_entries=4, show_spinner="Computing importance")
def _cached(_results: object, values: tuple[tuple[int, float | None], ...]) -> pl.DataFrame:
    return importances.importance(_results)  # type: ignore[arg-type]
