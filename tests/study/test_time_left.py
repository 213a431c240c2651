"""Time left, against studies whose clocks are known."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from study.budget import Usage
from study.lock import Driver
from study.results import StudyResults, TrialResult, read_study
from study.spec import Budget, Resources
from study.time_left import at_a_time, duration, seconds_left, time_left

NOON = datetime(2026, 1, 1, 12)


@pytest.fixture
def study(make_bridge, tmp_path: Path):
    """Makes the results of a study of 20 steps from (state, began at, seconds by its clock, steps) of each trial."""

    def make(*trials: tuple[str, float, float, int], start_up: float = 0.0, **changes: Any) -> StudyResults:
        results = read_study(make_bridge(**{"trials": len(trials), "pruner": {"name": "none"}} | changes).directory)
        made = tuple(_trial(tmp_path, n, *each, start_up) for n, each in enumerate(trials))
        return replace(results, trials=made, driver=None)

    return make


def _trial(tmp_path: Path, number: int, state: str, began: float, clock: float, steps: int, start_up: float):
    directory = tmp_path / f"{number}"
    directory.mkdir()
    (directory / "metrics.jsonl").write_text(json.dumps({"step": steps, "seconds/total": clock}) + "\n")
    started = NOON + timedelta(seconds=began)
    return TrialResult(
        number=number, state=state, params={}, control=None, value=None, pruned_at=None, fail_reason=None,
        started=started, ended=None if state == "RUNNING" else started + timedelta(seconds=clock + start_up),
        directory=directory, evaluations=(), usage=Usage(seconds=clock),
    )  # fmt: skip


def test_each_trial_to_come_takes_what_those_that_ran_took(study):
    # 30 steps took 60 s, 15 a trial: 10 are left of the third, and three more follow, one after another.
    ran = [("COMPLETE", 0, 40.0, 20), ("PRUNED", 40, 20.0, 10), ("RUNNING", 60, 10.0, 5)]
    assert seconds_left(study(*ran, trials=6, concurrency=1)) == pytest.approx((10 + 3 * 15) * 2)


def test_a_trial_to_come_takes_as_long_to_start_as_the_one_that_started_soonest(study):
    ended = [("COMPLETE", 0, 40.0, 20), ("COMPLETE", 500, 40.0, 20)]
    results = study(*ended, trials=3, concurrency=1, start_up=6.0)
    waited = replace(results.trials[0], ended=NOON + timedelta(hours=9))  # a night lies between its start and its end
    assert seconds_left(replace(results, trials=(waited, results.trials[1]))) == pytest.approx(46)


def test_what_an_earlier_driver_left_behind_tells_nothing_of_how_long_a_start_takes(study):
    results = study(("COMPLETE", 0, 40.0, 20), ("COMPLETE", 500, 40.0, 20), trials=3, concurrency=1, start_up=6.0)
    long = replace(results.trials[0], ended=NOON + timedelta(seconds=100))
    resumed = Driver("host", 1, began=(NOON + timedelta(seconds=50)).timestamp())
    alone = replace(results, trials=(long,), driver=resumed)
    assert seconds_left(alone) == pytest.approx(2 * 40)
    died = replace(long, deaths=1)  # under the driver that runs
    assert seconds_left(replace(alone, driver=None, trials=(died,))) == pytest.approx(2 * 40)
    assert seconds_left(replace(alone, trials=(long, results.trials[1]))) == pytest.approx(46)


def test_what_runs_at_a_time_ends_together_and_a_lane_that_is_free_takes_the_next(study):
    # Two at a time: 10 and 30 s are left of those that run; the next three begin after 10, 30 and 50 s.
    ran = [("COMPLETE", 0, 40.0, 20), ("RUNNING", 0, 30.0, 15), ("RUNNING", 40, 10.0, 5)]
    assert seconds_left(study(*ran, trials=6, concurrency=64)) == pytest.approx(90)


def test_a_study_without_trials_to_come_ends_with_the_last_of_those_that_run(study):
    ran = [("COMPLETE", 0, 40.0, 20), ("RUNNING", 0, 30.0, 15), ("RUNNING", 40, 10.0, 5)]
    assert seconds_left(study(*ran, trials=3)) == pytest.approx(30)


def test_before_a_trial_has_ended_those_that_run_tell_the_pace(study):
    # 13 s for 5 steps, of which 15 and 20 are left.
    assert seconds_left(study(("RUNNING", 0, 13.0, 5), trials=2, concurrency=1)) == pytest.approx(35 * 13 / 5)


def test_how_soon_a_trial_failed_says_nothing_of_those_to_come(study):
    ended = [("COMPLETE", 0, 40.0, 20), ("FAIL", 40, 1.0, 1)]
    assert seconds_left(study(*ended, trials=6, concurrency=1)) == pytest.approx(4 * 40)


def test_a_trial_that_starts_has_its_start_before_it(study):
    ended = [("COMPLETE", 0, 40.0, 20), ("RUNNING", 46, 0.0, 0)]
    results = study(*ended, trials=2, concurrency=1, start_up=6.0)
    starting = replace(results.trials[1], starting=True)
    assert seconds_left(results) == pytest.approx(40)
    assert seconds_left(replace(results, trials=(results.trials[0], starting))) == pytest.approx(46)


def test_a_last_evaluation_that_outlasts_all_the_rest_is_waited_for(study, monkeypatch):
    monkeypatch.setattr("study.time_left.last_evaluations", lambda results: {0: 500.0})
    assert seconds_left(study(("RUNNING", 0, 13.0, 19), trials=1, concurrency=1)) == 500.0


@pytest.mark.parametrize("ended", ["stopped by hand", "collapsed: a fell", None])
def test_a_trial_that_the_pruner_did_not_stop_says_nothing_of_how_far_others_come(study, ended):
    # Two steps a second: one was stopped at step 2, of those that run 10 and 5 steps are left; two more follow.
    ran = [("PRUNED", 0, 1.0, 2), ("RUNNING", 0, 5.0, 10), ("RUNNING", 1, 7.5, 15)]
    results = study(*ran, trials=5, concurrency=2)
    stopped = replace(results.trials[0], stop_reason=ended)
    left = seconds_left(replace(results, trials=(stopped, *results.trials[1:])))
    # Else two are expected to do two steps each, and those that came further to end at the 20th.
    assert left == pytest.approx(15.0 if ended else 5.0)


def test_a_trial_that_confirms_another_is_run_to_its_end(study):
    # Half a second a step: 20 and 10 steps took 15 s. One confirmation is at step 5, three more follow.
    ran = [("COMPLETE", 0, 10.0, 20), ("PRUNED", 10, 5.0, 10), ("RUNNING", 15, 2.5, 5)]
    results = study(*ran, trials=2, concurrency=1, replicas={"seeds": 4, "top": 1})
    again = replace(results.trials[2], confirms=0)
    assert seconds_left(replace(results, trials=(*results.trials[:2], again))) == pytest.approx(7.5 + 3 * 10)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(45, "45 s"), (720, "12 min"), (11_100, "3 h 05 min"), (47.4 * 3600, "47 h 24 min"), (14.1 * 86_400, "14 d 2 h")],
)
def test_durations_are_short(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("budget", "resources", "left"),
    [
        ({}, {}, (50.0, None)),
        ({"hours": 1.0}, {}, (50.0, None)),
        ({"hours": 140 / 3600}, {}, (40.0, "budget.hours")),  # of which 100 s are over
        ({"hours": 90 / 3600}, {}, (0.0, "budget.hours")),
        # 70 s of a trial are spent, 40 s by the first and 30 s by the one that runs, on four GPUs each.
        ({"gpu_hours": 4 * 100 / 3600}, {"workers": 2, "gpus_per_worker": 2}, (30.0, "budget.gpu_hours")),
        ({"gpu_hours": 4 * 200 / 3600, "hours": 190 / 3600}, {"workers": 4, "gpus_per_worker": 1}, (50.0, None)),
    ],
)
def test_a_budget_may_end_the_study_before_its_trials_do(study, monkeypatch, budget, resources, left):
    monkeypatch.setattr("time.time", lambda: NOON.timestamp())
    ran = [("COMPLETE", 0, 40.0, 20), ("RUNNING", 40, 30.0, 15)]
    results = study(*ran, trials=3, concurrency=1)
    spec = results.spec.model_copy(update={"budget": Budget(**budget), "resources": Resources(**resources)})
    driven = replace(results, spec=spec, driver=Driver("host", 1, began=NOON.timestamp() - 100))
    first = replace(results.trials[0], ended=NOON + timedelta(seconds=40))
    driven = replace(driven, trials=(first, results.trials[1]))
    found = time_left(driven)
    assert found.budget == left[1] and found.seconds == pytest.approx(left[0], abs=0.01)
    assert time_left(replace(driven, driver=None)) is None


def test_with_two_trials_at_a_time_gpu_hours_are_spent_twice_as_fast(study):
    ran = [("RUNNING", 0, 30.0, 15), ("RUNNING", 0, 30.0, 15)]
    results = study(*ran, trials=99, concurrency=2)
    resources = Resources(gpus_per_worker=1)
    spec = results.spec.model_copy(update={"budget": Budget(gpu_hours=420 / 3600), "resources": resources})
    left = time_left(replace(results, spec=spec, driver=Driver("host", 1, began=0.0)))
    assert left.seconds == pytest.approx((420 - 60) / 2)
    assert str(left) == "about 3 min left, then budget.gpu_hours ends it"
    assert str(left._replace(budget=None)) == "about 3 min left"


def test_time_left_is_unknown_before_the_first_step(study):
    assert seconds_left(study(("RUNNING", 0, 1.0, 0))) is None


def test_a_trial_that_starts_after_another_has_ended_runs_not_beside_it(study):
    ran = [("COMPLETE", 0, 10.0, 5), ("PRUNED", 5, 30.0, 5), ("RUNNING", 10, 0.0, 5)]
    assert at_a_time(study(*ran).trials) == 2  # the first ends as the third begins
    assert at_a_time(()) == 0
