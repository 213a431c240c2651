"""Length-accuracy: does accuracy rise with response length, and for which settings?"""

from __future__ import annotations

import streamlit as st

from dashboards import frames, text
from dashboards.figures.length_accuracy import length_accuracy
from dashboards.source import Study
from dashboards.views.trials import trials_table
from dashboards.views.widgets import IN_URL, choose_trials, is_dark

STATE = "trial state"
SET_HELP = "The first set steers selection and pruning; report what you choose on another one."
ERROR_HELP = """sampling: from drawing k responses of these very problems; compares trials of this study.
across problems: from drawing these problems too; says what other problems would give."""


def render(study: Study) -> None:
    """Controls, the chart, and the table of the trials in it."""
    st.title("Length-accuracy")
    sets, keys = study.sets, frames.parameters(study.trials)
    left, middle, right, last = st.columns(4)
    set_name = left.selectbox("Evaluation set", sets, key="set", help=SET_HELP, **IN_URL)
    colour = middle.selectbox("Colour", [*keys, STATE], key="colour", format_func=text.label, **IN_URL)
    length = right.selectbox("Length", list(frames.LENGTHS), key="length", **IN_URL)
    bars = last.selectbox(
        "Error bars, ± one standard error", [*frames.ERRORS, "none"], key="error", help=ERROR_HELP, **IN_URL
    )
    only = choose_trials(study)
    draw(
        study,
        set_name=set_name,
        colour=None if colour == STATE else colour,
        length=length,
        error=None if bars == "none" else bars,
        only=only,
    )
    trials_table(study, set_name)


def draw(study: Study, *, set_name: str, colour: str | None, length: str = "mean", error: str | None = "sampling",
         only: list[int] | None = None, height: int = 560) -> None:  # fmt: skip
    """The chart, or a sentence when the chosen trials have no point on the set."""
    points = frames.curves(
        study.trials, study.evaluations, set_name=set_name, length=length, error=error, colour=colour, only=only or ()
    )
    if points.is_empty():
        st.info("The chosen trials have no evaluation of this set yet.")
        return
    best = study.results.best
    figure = length_accuracy(points, colour=colour, length=length, error=error, best=best.number if best else None,
                             dark=is_dark())  # fmt: skip
    figure.update_layout(height=height)
    st.plotly_chart(figure, key="length-accuracy", config={"displaylogo": False},
                    alt="Accuracy against response length, one curve per trial")  # fmt: skip
