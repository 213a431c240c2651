from __future__ import annotations

import polars as pl
import pytest

from dashboards import frames
from dashboards.figures.history import history
from study.results import StudyResults


def test_the_stair_is_the_best_value_so_far_and_ends_at_the_best(finished: StudyResults) -> None:
    figure = history(frames.trials(finished), metric=finished.metric_name)
    stair = figure.data[0]
    values = [trial.value for trial in finished.trials if trial.value is not None]
    assert list(stair.y) == [max(values[: i + 1]) for i in range(len(values))]
    assert finished.best is not None and stair.y[-1] == finished.best.value


def test_controls_are_marked_and_confirmations_are_no_search(finished: StudyResults) -> None:
    trials = frames.trials(finished)
    drawn = {trace.name: list(trace.x) for trace in history(trials, metric="avg@8").data}
    assert drawn["control"] == [0]
    again = trials.with_columns(pl.when(pl.col("trial") == 1).then(0).otherwise(None).alias("confirms"))
    assert 1 in drawn["complete"]
    assert 1 not in {trace.name: list(trace.x) for trace in history(again, metric="avg@8").data}["complete"]


def test_what_was_enqueued_by_hand_is_told_from_the_controls(finished: StudyResults) -> None:
    trials = frames.trials(finished)
    first = trials.filter(pl.col("state") == "COMPLETE", pl.col("control").is_null())["trial"][0]
    marked = trials.with_columns(pl.when(pl.col("trial") == first).then(pl.lit("warm")).alias("enqueued"))
    drawn = {trace.name: list(trace.x) for trace in history(marked, metric="avg@8").data}
    assert (drawn["control"], drawn["enqueued"]) == ([0], [first]) and first not in drawn["complete"]


def test_the_axis_of_a_tie_ends_at_100_per_cent(finished: StudyResults) -> None:
    equal = frames.trials(finished).with_columns(value=pl.lit(1.0))
    bounds = history(equal, metric="avg@8").layout.yaxis.autorangeoptions
    assert (bounds.clipmax, tuple(bounds.include)) == (pytest.approx(1.02), pytest.approx((0.9, 1.0)))


def test_without_a_complete_trial_there_is_nothing_but_axes(finished: StudyResults) -> None:
    none = frames.trials(finished).filter(pl.col("state") == "PRUNED")
    assert [len(trace.x) for trace in history(none, metric="avg@8").data] == [0]
