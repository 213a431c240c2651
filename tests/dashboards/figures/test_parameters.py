from __future__ import annotations

import polars as pl
import pytest

from dashboards import frames, palette
from dashboards.figures import parameters
from study.results import StudyResults


@pytest.fixture
def summary(finished: StudyResults) -> pl.DataFrame:
    return frames.summary(frames.trials(finished), frames.evaluations(finished), set_name="sums_select")


def test_slices_show_each_trial_once_per_parameter_with_its_error(summary: pl.DataFrame) -> None:
    figure = parameters.slices(summary, ["fipo.half_life", "fipo.epsilon_f_high"])
    assert sum(len(trace.x) for trace in figure.data) == 2 * summary.height
    errors = sorted(error for trace in figure.data for error in trace.error_y.array)
    assert errors == pytest.approx(sorted([*summary["sampling_error"], *summary["sampling_error"]]))


def test_a_rate_over_decades_has_a_log_axis_and_a_bound_has_not(summary: pl.DataFrame) -> None:
    layout = parameters.slices(summary, ["optimizer.learning_rate", "fipo.epsilon_f_low"]).layout
    assert layout.xaxis.type == "log"
    assert layout.xaxis2.type != "log"


def test_the_plane_draws_complete_trials_on_top_on_one_colour_scale(summary: pl.DataFrame) -> None:
    figure = parameters.pair(summary, "fipo.half_life", "fipo.epsilon_f_high")
    assert figure.data[-1].marker.symbol == palette.STATE_SYMBOLS["COMPLETE"]
    assert {(trace.marker.cmin, trace.marker.cmax) for trace in figure.data} == {
        (summary["accuracy"].min(), summary["accuracy"].max())
    }


def test_importances_put_the_largest_on_top() -> None:
    rows = [("a", "fANOVA", 0.2), ("b", "fANOVA", 0.8), ("a", "PED-ANOVA", 0.3), ("b", "PED-ANOVA", 0.7)]
    frame = pl.DataFrame(rows, schema=["parameter", "method", "importance"], orient="row")
    figure = parameters.importances(frame)
    assert list(figure.layout.yaxis.categoryarray) == ["a", "b"]
    assert [trace.name for trace in figure.data] == ["fANOVA", "PED-ANOVA"]
