from __future__ import annotations

import plotly.graph_objects as go
import polars as pl
import pytest

from dashboards import fits, frames, paper
from dashboards.figures import overlays
from study.results import StudyResults


@pytest.fixture
def points(finished: StudyResults) -> pl.DataFrame:
    return frames.curves(frames.trials(finished), frames.evaluations(finished), set_name="sums_select")


def test_a_fit_is_drawn_over_its_own_lengths_only(points: pl.DataFrame) -> None:
    lines, figure = fits.stage_fits(points, stages=2), go.Figure()
    overlays.add_fits(figure, lines)
    ends = [(trace.x[0], trace.x[-1]) for trace in figure.data]
    assert ends == [pytest.approx(row) for row in lines.select("shortest", "longest").rows()]
    for trace, (slope, intercept) in zip(figure.data, lines.select("slope", "intercept").rows(), strict=True):
        assert list(trace.y) == pytest.approx([intercept + slope * x for x in trace.x])


def test_a_fit_is_no_straight_line_once_the_axis_is_logarithmic(points: pl.DataFrame) -> None:
    figure = go.Figure()
    overlays.add_fits(figure, fits.stage_fits(points, stages=1))
    assert len(figure.data[0].x) > 20


def test_the_legend_says_slope_and_r2_of_each_stage(points: pl.DataFrame) -> None:
    lines, figure = fits.stage_fits(points, stages=2), go.Figure()
    overlays.add_fits(figure, lines)
    for trace, row in zip(figure.data, lines.iter_rows(named=True), strict=True):
        assert trace.name.startswith(f"stage {row['stage']}: {100 * row['slope']:.3g} ± {100 * row['slope_error']:.3g}")
        assert trace.name.endswith(f"R² {row['r2']:.2f}")
    assert len({trace.line.dash for trace in figure.data}) == 2


def test_the_front_is_a_staircase_through_its_trials(points: pl.DataFrame) -> None:
    front, figure = fits.pareto_front(points), go.Figure()
    overlays.add_front(figure, front)
    assert figure.data[0].line.shape == "hv"
    assert list(figure.data[0].y) == front["accuracy"].to_list()


def test_names_on_the_chart_stay_at_their_points_when_the_axis_becomes_logarithmic() -> None:
    figure = go.Figure().add_annotation(x=100.0, y=0.5, text="DAPO")
    overlays.add_paper(figure, paper.length_accuracy())
    assert figure.layout.annotations[0].x == pytest.approx(2.0)  # Plotly wants log10 here, unlike in traces


def test_the_papers_runs_are_named_and_the_axis_becomes_logarithmic() -> None:
    figure = go.Figure()
    overlays.add_paper(figure, paper.length_accuracy())
    assert [trace.name for trace in figure.data] == [f"paper: 32B {run}, AIME 2024 avg@32" for run in ("FIPO", "DAPO")]
    assert figure.layout.xaxis.type == "log"
    # Figure 3(f) begins at its shortest point and ends among its longest.
    assert (figure.data[0].x[0], figure.data[0].x[-1]) == (517.8, 11442.9)
