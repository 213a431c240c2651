from __future__ import annotations

from datetime import datetime, timedelta

import plotly.graph_objects as go
import polars as pl
import pytest

from dashboards import frames, palette, spans
from dashboards.figures.pruning import intermediate_values, timeline
from study.results import StudyResults


@pytest.fixture
def points(finished: StudyResults) -> pl.DataFrame:
    return frames.curves(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", error=None)


def at(minutes: float) -> datetime:
    return datetime(2026, 1, 1, 12) + timedelta(minutes=minutes)


def drawn(*runs: list[tuple[float, float]]) -> tuple[go.Bar | go.Scatter, ...]:
    """The timeline of trials that ran between these minutes."""
    rows = [{"trial": i, "label": f"#{i}", "state": "COMPLETE", "started": at(own[0][0])} for i, own in enumerate(runs)]
    ran = [(i, at(begun), at(ended)) for i, own in enumerate(runs) for begun, ended in own]
    return timeline(
        pl.DataFrame(rows, schema=frames.TRIAL_SCHEMA), pl.DataFrame(ran, schema=spans.SCHEMA, orient="row"),
    ).data  # fmt: skip


def test_a_pruned_curve_ends_in_a_cross_at_the_step_of_its_pruning(
    finished: StudyResults, points: pl.DataFrame
) -> None:
    curves = {trace.meta: trace for trace in intermediate_values(points, measure="m").data}
    pruned = [trial for trial in finished.trials if trial.state == "PRUNED"]
    assert pruned
    for trial in pruned:
        assert curves[trial.number].x[-1] == trial.pruned_at
        assert curves[trial.number].marker.symbol[-1] == palette.STATE_SYMBOLS["PRUNED"]


def test_each_state_is_named_once_in_the_legend_by_its_shape(finished: StudyResults, points: pl.DataFrame) -> None:
    shown = {trace.name: trace for trace in intermediate_values(points, measure="m").data if trace.showlegend is None}
    assert set(shown) == {trial.state.lower() for trial in finished.trials}
    assert shown["pruned"].marker.symbol == palette.STATE_SYMBOLS["PRUNED"]


def test_the_median_of_the_complete_is_drawn_on_top_and_the_axis_says_the_metric(points: pl.DataFrame) -> None:
    median = pl.DataFrame({"step": [5, 10], "accuracy": [0.4, 0.5]})
    figure = intermediate_values(points, measure="sums_select/cons@8", median=median)
    line = next(trace for trace in figure.data if trace.name == "median of the complete")
    assert (list(line.x), list(line.y)) == ([5, 10], [0.4, 0.5])
    assert figure.layout.yaxis.title.text == "sums_select/cons@8"


def test_every_point_tells_a_click_its_trial(points: pl.DataFrame) -> None:
    first, last = points.filter(pl.col("trial") < 3), points.filter(pl.col("trial") > 8)
    figure = intermediate_values(first, ends=last, measure="m")
    told = [trace for trace in figure.data if trace.customdata is not None]
    assert {row[0] for trace in told for row in trace.customdata} == {0, 1, 2, 9, 10, 11}


def test_every_trial_that_began_has_a_bar_as_long_as_it_ran(finished: StudyResults) -> None:
    trials = frames.trials(finished)
    traces = timeline(trials, spans.spans(finished, now=datetime.now())).data
    bars = {label: length for trace in traces for label, length in zip(trace.text, trace.x, strict=True)}
    assert set(bars) == set(trials["label"])
    for label, seconds in trials.select("label", "seconds").iter_rows():
        assert abs(bars[label] - 1000 * seconds) <= 1


def test_a_trial_that_stood_still_has_a_bar_before_and_after_and_keeps_its_lane() -> None:
    pause, bars = drawn([(0, 10), (40, 45)], [(20, 60)])
    assert list(pause.x)[:2] == [at(10), at(40)] and "stood still" in pause.name
    assert list(zip(bars.base, bars.x, bars.y, bars.text, strict=True)) == [
        (at(0), 600_000, 1, "#0"), (at(40), 300_000, 1, ""), (at(20), 2_400_000, 2, "#1"),
    ]  # fmt: skip
    assert bars.customdata[0].endswith("15 min, stood still 30 min")
    assert bars.customdata[2].endswith("40 min")


def test_there_are_as_many_lanes_as_trials_ran_at_once() -> None:
    # The last runs beside the second and the fourth.
    (trace,) = drawn([(0, 10)], [(0, 30)], [(10, 20)], [(25, 40)], [(26, 27)])
    assert list(trace.y) == [1, 2, 1, 1, 3]


@pytest.mark.parametrize("curved", [True, False])
def test_points_of_fewer_responses_are_hollow_and_say_their_k(raced: StudyResults, curved: bool) -> None:
    own = frames.curves(frames.trials(raced), frames.evaluations(raced), set_name="sums_select", error=None, only=[1])
    ends = own.filter(pl.col("last"))
    figure = intermediate_values(own if curved else own.clear(), ends=None if curved else ends, measure="m")
    trace = figure.data[0]
    assert (trace.marker.symbol[-1], trace.customdata[-1][1]) == ("x-open", ", k = 2 of 8")
    if curved:
        assert (trace.marker.symbol[0], trace.customdata[0][1]) == ("circle", "")
    assert "hollow: k = 2 of 8" in {each.name for each in figure.data}
