"""Where a study stops beside its number of trials, over real trials in a real storage."""

from __future__ import annotations

import json
import time

import pytest

from study.assignment import Report
from study.bridge import Bridge
from study.budget import Account, usage
from study.results import read_study
from study.spec import Budget, Resources

FOUR_GPUS = Resources(workers=4, gpus_per_worker=1)


def test_gpu_hours_are_wall_hours_times_the_gpus_of_all_workers():
    assert usage(FOUR_GPUS, seconds=1800.0, tokens=7).gpu_hours == 2.0
    assert usage(Resources(workers=4), seconds=1800.0, tokens=7).gpu_hours == 0.0


RAISE = "raise it, or set it to null, before a resume"


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(), None),
        (
            Budget(gpu_hours=4.0),
            f"budget.gpu_hours = 4 is spent (4 GPU-hours with what runs); {RAISE}",
        ),
        (Budget(gpu_hours=4.1), None),
        (Budget(accuracy=0.5), f"budget.accuracy = 0.5 is reached (0.600); {RAISE}"),
        (Budget(accuracy=0.6), f"budget.accuracy = 0.6 is reached (0.600); {RAISE}"),
        (Budget(accuracy=0.7), None),
        (Budget(hours=1e-9), "budget.hours = 1e-09 is over; a resume has as many again"),
        (Budget(hours=1.0), None),
    ],
)
def test_what_is_spent_stops_the_study_with_the_numbers(budget, reason):
    account = Account(budget, FOUR_GPUS, [])
    account.used(0, usage(FOUR_GPUS, seconds=1800.0, tokens=0))
    account.used(1, usage(FOUR_GPUS, seconds=900.0, tokens=0))
    account.used(1, usage(FOUR_GPUS, seconds=1800.0, tokens=0))  # so far, not in addition
    account.used(1, usage(FOUR_GPUS, seconds=900.0, tokens=0))  # told again after a death
    account.completed(0.6)
    account.completed(0.4)  # no better than the best
    assert account.best == 0.6
    assert account.spent() == reason


def test_a_budget_of_hours_is_over_after_so_many_hours(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    account = Account(Budget(hours=2.0), FOUR_GPUS, [])
    now += 2 * 3600 - 1
    assert account.spent() is None
    now += 1
    assert str(account.spent()).startswith("budget.hours = 2 is over")


def test_what_a_trial_holds_since_its_newest_evaluation_counts_too(monkeypatch):
    """At 32B the steps between two evaluations are thousands of GPU-hours."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    account = Account(Budget(gpu_hours=4.0), FOUR_GPUS, [])
    account.used(0, usage(FOUR_GPUS, seconds=1800.0, tokens=0))  # left by an earlier driver, and not begun again
    now += 7200.0
    assert account.gpu_hours == 2.0
    account.trains(0)
    now += 900.0
    assert account.gpu_hours == 3.0 and account.spent() is None
    account.used(0, usage(FOUR_GPUS, seconds=2100.0, tokens=0))
    account.trains(0)
    assert account.gpu_hours == pytest.approx(7 / 3)
    now += 1500.0
    assert str(account.spent()).startswith("budget.gpu_hours = 4 is spent (4 GPU-hours with what runs)")
    account.rests(0)
    assert account.gpu_hours == pytest.approx(7 / 3)


def test_every_trial_says_what_it_took_however_it_ended(make_bridge):
    bridge = make_bridge(resources={"gpus_per_worker": 2}, pruner={"name": "median", "n_startup_trials": 1})
    for curve in ([0.2, 0.5, 0.6, 0.7, 0.8], [0.2, 0.1], [0.2]):
        number = bridge.ask().number
        for index, value in enumerate(curve):
            bridge.report(number, Report(5 * index, value, seconds=360.0 * index, tokens=100 * index))
        bridge.finish(number)
    trials = read_study(bridge.directory).trials
    assert [trial.state for trial in trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert [trial.usage.gpu_hours for trial in trials] == [0.8, 0.2, 0.0]
    assert [trial.usage.tokens for trial in trials] == [400, 100, 0]


def test_what_a_running_trial_took_before_a_resume_counts_at_once(make_bridge):
    bridge = make_bridge(resources={"gpus_per_worker": 2})
    running = bridge.ask()
    bridge.report(0, Report(5, 0.2, seconds=360.0))
    (running.directory / "metrics.jsonl").write_text(
        json.dumps({"step": 9, "seconds/total": 720.0, "tokens": 9}) + "\n"
    )
    again = Bridge(bridge.study, bridge.spec, bridge.directory)
    assert again.account.gpu_hours == pytest.approx(0.4)
    bridge.finish(0)  # which failed since
    assert read_study(bridge.directory).trials[0].usage.gpu_hours == pytest.approx(0.4)


def test_a_trial_that_waits_for_room_spends_nothing(make_bridge, monkeypatch):
    """Before it has told anything, after it has lost a process and at its end: the GPUs may be others' for a night."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bridge = make_bridge(resources={"gpus_per_worker": 1}, budget={"gpu_hours": 1.0})
    bridge.ask()
    now += 36_000.0
    assert bridge.account.gpu_hours == 0.0
    bridge.report(0, Report(5, 0.2, seconds=360.0))
    now += 360.0
    assert bridge.account.gpu_hours == pytest.approx(0.2)
    bridge.died(0)
    now += 36_000.0
    assert bridge.account.gpu_hours == pytest.approx(0.1) and bridge.account.spent() is None
    bridge.report(0, Report(5, 0.2, seconds=360.0))  # it goes on from its checkpoint
    now += 720.0
    assert bridge.account.gpu_hours == pytest.approx(0.3)
    bridge.finish(0)
    now += 36_000.0
    assert bridge.account.gpu_hours == pytest.approx(0.1)


def test_a_spent_budget_stops_what_runs_and_begins_nothing(make_bridge):
    bridge = make_bridge(resources={"gpus_per_worker": 1}, budget={"gpu_hours": 1.0})
    first, second = bridge.ask(), bridge.ask()
    assert not bridge.report(0, Report(5, 0.2, seconds=1800.0))
    assert bridge.report(1, Report(5, 0.2, seconds=1800.0))
    for assignment in (first, second):
        assert (assignment.directory / "stop").exists()
        bridge.finish(assignment.number)
    assert bridge.ask() is None
    assert [trial.state for trial in read_study(bridge.directory).trials] == ["RUNNING", "RUNNING"]  # to be resumed
