"""Length-accuracy: does accuracy rise with response length, and for which settings?"""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards import fits, frames, paper
from dashboards.figures import overlays
from dashboards.figures.length_accuracy import length_accuracy
from dashboards.source import Study
from dashboards.thinning import ends_only, thin
from dashboards.views import ranking
from dashboards.views.opened import clicked, opened
from dashboards.views.trials import trials_table
from dashboards.views.widgets import IN_URL, choose_parameter, choose_trials, filter_trials, is_dark

STATE = "trial state"
CURVES, NEWEST = "curves", "newest points"
FITS, FRONT, PAPER = "stage fits", "Pareto front", {"paper: FIPO 32B": "fipo", "paper: DAPO 32B": "dapo"}
SET_HELP = "The first set selects and prunes; report what you choose on another one."
ERROR_HELP = """One standard error. sampling: from drawing k responses of these very problems; compares trials of this
study. across problems: from drawing these problems too; says what other problems would give."""


def render(study: Study) -> None:
    """Controls, the chart with its overlays, and the table of the trials in it."""
    st.title("Length-accuracy")
    left, middle, right, last = st.columns(4)
    set_name = left.selectbox("Evaluation set", study.sets, key="set", help=SET_HELP, **IN_URL)
    colours = [*ranking.ranked(study), STATE]
    colour = choose_parameter(middle, "Colour", colours, study, key="colour", help=ranking.HELP)
    length = right.selectbox("Length", list(frames.LENGTHS), key="length", **IN_URL)
    bars = last.selectbox("Error bars", [*frames.ERRORS, "none"], key="error", help=ERROR_HELP, **IN_URL)
    left, middle, right, last = st.columns(4, vertical_alignment="bottom")
    with left:
        chosen = choose_trials(study, placeholder="all that the filters leave")
    with middle:
        filtered = filter_trials(study)
    only = chosen or filtered.trials
    drawn = right.segmented_control("Draw", [CURVES, NEWEST], default=CURVES, required=True, key="draw", **IN_URL)
    over = last.multiselect("Overlays", [FITS, FRONT, *PAPER], key="over", placeholder="none", **IN_URL)
    draw(
        study,
        set_name=set_name,
        colour=None if colour == STATE else colour,
        length=length,
        error=None if bars == "none" else bars,
        only=only,
        steps=filtered.steps,
        over=over,
        newest=drawn == NEWEST,
    )
    trials_table(study, set_name, only=only)


def draw(
    study: Study,
    *,
    set_name: str,
    colour: str | None,
    length: str = "mean",
    error: str | None = "sampling",
    only: list[int] | None = None,
    steps: tuple[int, int] | None = None,
    over: list[str] | None = None,
    newest: bool = False,
    height: int = 560,
) -> None:
    """The chart, or a sentence when the chosen trials have no point on the set."""
    points = frames.curves(
        study.trials, study.evaluations, set_name=set_name, length=length, error=error, colour=colour, only=only,
        steps=steps,
    )  # fmt: skip
    if newest:
        points = points.filter("last")
    if points.is_empty():
        st.info("The chosen trials have no evaluation of this set in these steps.")
        return
    best = study.results.best.number if study.results.best else None
    shown = ends_only(points, best=best) if newest else thin(points, best=best)
    figure = length_accuracy(
        shown.curves, ends=shown.ends, colour=colour, length=length, error=error, best=best, dark=is_dark()
    )
    over = over or []
    lines = _fits(points) if FITS in over else None
    if lines is not None:
        overlays.add_fits(figure, lines, dark=is_dark())
    if FRONT in over:
        overlays.add_front(figure, fits.pareto_front(_finals(study, points)))
    runs = [run for name, run in PAPER.items() if name in over]
    if runs:
        overlays.add_paper(figure, paper.length_accuracy().filter(pl.col("run").is_in(runs)))
    figure.update_layout(height=height)
    alt = "Accuracy against response length, one curve per trial"
    event = st.plotly_chart(
        figure, key="length-accuracy", config={"displaylogo": False}, alt=alt, on_select="rerun",
        selection_mode="points",
    )  # fmt: skip
    number = clicked(event)
    if number is not None:
        opened(study, number, set_name)
    if shown.sentence:
        st.caption(shown.sentence)
    if runs:
        st.caption("Paper: arXiv 2603.19835, Figures 1 and 3, digitised; AIME 2024 at 32B, its lengths are its own.")
    if lines is not None:
        _fit_table(lines)


def _finals(study: Study, points: pl.DataFrame) -> pl.DataFrame:
    """The last points of complete trials, one for each configuration. The front is that of the chart's own axes; `fipo
    export --pareto` goes by the study's metric and mean length."""
    numbers = [each.number for each in study.results.evidence]
    ends = study.evaluations.filter(pl.col("trial").is_in(numbers)).group_by("trial").agg(pl.col("step").max())
    return points.join(ends, on=["trial", "step"], maintain_order="left")


def _fits(points: pl.DataFrame) -> pl.DataFrame:
    narrow, _ = st.columns([1, 3])
    stages = narrow.select_slider("Stages of training, of equal steps", [1, 2, 3, 4], value=2, key="stages", **IN_URL)
    return fits.stage_fits(points, stages=stages)


def _fit_table(lines: pl.DataFrame) -> None:
    table = lines.select(
        "stage",
        pl.format("{} to {}", "first_step", "last_step").alias("steps"),
        "points",
        pl.col("slope", "slope_error") * 100,
        "r2",
    )
    columns = {
        "slope": st.column_config.NumberColumn("slope (points of accuracy per token)", format="%.3g"),
        "slope_error": st.column_config.NumberColumn("± one standard error, at least", format="%.2g"),
        "r2": st.column_config.NumberColumn("R²", format="%.2f"),
    }
    st.dataframe(table, column_config=columns, hide_index=True, key="fits", alt="Regressions by stage of training")
    st.caption(
        "All points of the chosen trials pooled. Points of one trial depend on each other: the error is too small."
    )
