from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from dashboards import costs, frames
from study.budget import devices
from study.spec import Resources


def trials(rows: list[dict[str, object]]) -> pl.DataFrame:
    numbered = [{"trial": i, "label": f"#{i}"} | row for i, row in enumerate(rows)]
    return pl.DataFrame(numbered, schema=frames.TRIAL_SCHEMA)


def evaluations(rows: list[tuple[int, int, float, float]]) -> pl.DataFrame:
    """Rows of trial, step, accuracy, seconds."""
    named = [{"trial": t, "set": "a", "step": s, "accuracy": a, "seconds": c} for t, s, a, c in rows]
    return pl.DataFrame(named, schema=frames.EVALUATION_SCHEMA)


def test_gpu_hours_count_every_gpu_of_every_worker_and_cores_where_there_is_none() -> None:
    gpus = devices(Resources(workers=4, gpus_per_worker=2, cpus_per_worker=8))
    assert (gpus.count, gpus.name, gpus.hours(1800)) == (8, "GPU", 4.0)
    cores = devices(Resources(workers=2, cpus_per_worker=3))
    assert (cores.count, cores.name, cores.hours(3600)) == (6, "core", 6.0)


def test_a_trial_cost_what_its_driver_counted_else_what_its_own_clock_says() -> None:
    resumed = {"state": "COMPLETE", "seconds": 90_000.0, "used_seconds": 50.0}
    unknown = {"state": "FAIL", "seconds": 3.0}
    table = trials([resumed, {"state": "RUNNING"}, {"state": "WAITING"}, unknown])
    spent = costs.run_seconds(table, evaluations([(0, 9, 0.5, 44.0), (1, 5, 0.5, 20.0), (1, 9, 0.5, 30.0)]))
    assert spent["run_seconds"].to_list() == [50.0, 30.0, 0.0, 3.0]


def test_a_pruned_trial_is_measured_against_the_complete_ones_at_its_step() -> None:
    table = trials(
        [{"state": "COMPLETE"}, {"state": "COMPLETE"}, {"state": "RUNNING"},
         {"state": "PRUNED", "pruned_at": 10, "seconds": 9.0}]
    )  # fmt: skip
    scores = [(0, 10, 0.6, 1.0), (1, 10, 0.8, 1.0), (2, 10, 0.9, 1.0), (1, 20, 0.95, 2.0)]
    own = [(3, 0, 0.1, 2.0), (3, 10, 0.3, 7.0)]
    (row,) = costs.pruned(table, evaluations(scores + own), set_name="a", steps=40).iter_rows(named=True)
    assert (row["accuracy"], row["others"], row["compared"]) == (0.3, pytest.approx(0.7), 2)
    # 0.5 seconds per step between its evaluations; its 2 seconds of starting would not come again.
    assert (row["spared_steps"], row["seconds"], row["spared_seconds"]) == (30, 9.0, 15.0)


def test_what_was_stopped_by_hand_is_a_row_of_which_nothing_was_spared() -> None:
    stopped = {"state": "PRUNED", "pruned_at": 10, "seconds": 5.0}
    table = trials([stopped, stopped | {"stop_reason": "stopped by hand"}])
    pruned = costs.pruned(table, evaluations([(0, 10, 0.3, 4.0), (1, 10, 0.3, 4.0)]), set_name="a", steps=40)
    assert pruned["spared_steps"].to_list() == [30, None] and pruned["spared_seconds"].to_list() == [15.0, None]


def test_a_pruned_trial_is_measured_against_those_completed_by_then_and_knows_its_best() -> None:
    noon = datetime(2026, 1, 1, 12)
    ran = [("COMPLETE", 0, 60.0), ("PRUNED", 30, 60.0), ("COMPLETE", 0, 600.0)]
    table = trials([{"state": state, "started": noon + timedelta(seconds=at), "seconds": took, "pruned_at": 10}
                    for state, at, took in ran])  # fmt: skip
    scores = [(0, 10, 0.6, 1.0), (2, 10, 0.8, 1.0), (1, 10, 0.3, 1.0), (1, 5, 0.4, 0.5)]
    (row,) = costs.pruned(table, evaluations(scores), set_name="a", steps=40).iter_rows(named=True)
    assert (row["accuracy"], row["highest"], row["others"], row["compared"]) == (0.3, 0.4, 0.6, 1)


def test_the_median_a_pruned_trial_is_measured_against_is_of_whole_evaluations() -> None:
    states = ("COMPLETE", "COMPLETE", "PRUNED")
    table = trials([{"state": state, "pruned_at": 10} for state in states])
    scores = evaluations([(0, 10, 0.6, 1.0), (1, 10, 0.9, 1.0), (2, 10, 0.3, 1.0)])
    scores = scores.with_columns(samples=pl.Series([8, 2, 2]), planned=pl.lit(8))
    (row,) = costs.pruned(table, scores, set_name="a", steps=40).iter_rows(named=True)
    assert (row["others"], row["compared"], row["samples"]) == (0.6, 1, 2)


def test_with_one_evaluation_the_pace_is_that_of_the_whole_trial() -> None:
    table = trials([{"state": "PRUNED", "pruned_at": 10, "seconds": 5.0}])
    (row,) = costs.pruned(table, evaluations([(0, 10, 0.3, 4.0)]), set_name="a", steps=40).iter_rows(named=True)
    assert row["spared_seconds"] == pytest.approx(15.0)
    assert (row["others"], row["compared"]) == (None, 0)


def test_time_left_counts_what_running_trials_have_done() -> None:
    noon = datetime(2026, 1, 1, 12)
    rows = [("COMPLETE", 0, 10.0), ("PRUNED", 5, 30.0), ("RUNNING", 10, None)]
    table = trials(
        [{"state": state, "started": noon + timedelta(seconds=at), "seconds": took} for state, at, took in rows]
    )
    assert costs.at_a_time(table) == 2  # the first ends as the third begins
    clock = evaluations([(2, 5, 0.5, 15.0)])
    options = {"planned": 6, "concurrency": 64}  # of which two fit
    assert costs.seconds_left(table, clock, **options) == pytest.approx((5 + 3 * 20) / 2)
    assert costs.seconds_left(table, clock, planned=3, concurrency=2) == pytest.approx(5)  # the other lane idles
    assert costs.seconds_left(table, clock, planned=6, concurrency=1) == pytest.approx(5 + 3 * 20)
    late = evaluations([(2, 5, 0.5, 500.0)])
    assert costs.seconds_left(table, late, **options) == pytest.approx(3 * 20 / 2)
    assert costs.seconds_left(table.clear(), clock, **options) is None


def test_a_failed_trial_is_not_left_to_do_and_its_short_life_does_not_shorten_the_estimate() -> None:
    table = trials([{"state": "COMPLETE", "seconds": 30.0}, {"state": "FAIL", "seconds": 1.0}])
    assert costs.seconds_left(table, evaluations([]), planned=6, concurrency=1) == pytest.approx(4 * 30)
    only_failed = table.filter(pl.col("state") == "FAIL")
    assert costs.seconds_left(only_failed, evaluations([]), planned=6, concurrency=1) is None
