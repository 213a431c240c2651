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
         {"state": "PRUNED", "pruned_at": 10, "seconds": 9.0}, {"state": "COMPLETE", "confirms": 1},
         {"state": "COMPLETE"}]
    )  # fmt: skip
    scores = [(0, 10, 0.6, 1.0), (1, 10, 0.8, 1.0), (2, 10, 0.9, 1.0), (1, 20, 0.95, 2.0), (4, 10, 0.95, 1.0)]
    scores += [(5, 10, 0.1, 1.0)]
    own = [(3, 0, 0.1, 2.0), (3, 10, 0.3, 7.0)]
    (row,) = costs.pruned(table, evaluations(scores + own), set_name="a", steps=40).iter_rows(named=True)
    assert (row["accuracy"], row["others"], row["compared"]) == (0.3, 0.6, 3)  # the median
    # 0.5 seconds per step between its evaluations; its 2 seconds of starting would not come again.
    assert (row["spared_steps"], row["seconds"], row["spared_seconds"]) == (30, 9.0, 15.0)
    seconds = pl.Series([None, None, None, 8.0, None, None])
    resumed = table.with_columns(used_seconds=seconds, seconds=90_000.0)  # a night between
    (row,) = costs.pruned(resumed, evaluations(scores + own), set_name="a", steps=40).iter_rows(named=True)
    assert row["seconds"] == 8.0


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


def test_the_best_of_a_pruned_trial_is_of_the_time_before_its_end() -> None:
    """A resumed trial tells again what the storage had missed, and may be stopped at the first."""
    table = trials([{"state": "PRUNED", "pruned_at": 3}])
    found = costs.pruned(table, evaluations([(0, 3, 0.2, 1.0), (0, 6, 0.6, 2.0)]), set_name="a", steps=40)
    assert found["highest"].to_list() == [0.2]


def test_the_median_a_pruned_trial_is_measured_against_is_of_whole_evaluations() -> None:
    states = ("COMPLETE", "COMPLETE", "PRUNED")
    table = trials([{"state": state, "pruned_at": 10} for state in states])
    scores = evaluations([(0, 10, 0.6, 1.0), (1, 10, 0.9, 1.0), (2, 10, 0.3, 1.0)])
    scores = scores.with_columns(samples=pl.Series([8, 2, 2]), planned=pl.lit(8))
    (row,) = costs.pruned(table, scores, set_name="a", steps=40).iter_rows(named=True)
    assert (row["others"], row["compared"], row["samples"]) == (0.6, 1, 2)


def test_a_trial_that_was_pruned_before_its_first_step_spared_all_of_them() -> None:
    table = trials([{"state": "COMPLETE", "seconds": 9.0}, {"state": "PRUNED", "pruned_at": 0, "seconds": 1.0}])
    known = evaluations([(0, 0, 0.3, 1.0), (0, 10, 0.6, 21.0), (1, 0, 0.3, 1.0)])  # two seconds a step
    (row,) = costs.pruned(table, known, set_name="a", steps=40).iter_rows(named=True)
    assert (row["pruned_at"], row["accuracy"], row["spared_steps"], row["spared_seconds"]) == (0, 0.3, 40, 80.0)


def test_with_one_evaluation_the_pace_is_that_of_the_whole_trial() -> None:
    table = trials([{"state": "PRUNED", "pruned_at": 10, "seconds": 5.0}])
    (row,) = costs.pruned(table, evaluations([(0, 10, 0.3, 4.0)]), set_name="a", steps=40).iter_rows(named=True)
    assert row["spared_seconds"] == pytest.approx(15.0)
    assert (row["others"], row["compared"]) == (None, 0)
