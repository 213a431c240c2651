"""What is looked after beside the trials, over made-up placement groups: real ones are in tests/integration."""

from __future__ import annotations

import functools
import itertools
import math
import signal
from types import SimpleNamespace

import pytest

from study import supervisor
from study.bridge import StudyAborted
from study.signals import terminated_as_interrupt
from study.supervisor import Supervisor
from tests.study.test_signals import lose

AGAIN = "there is room again, and the study goes on"


@pytest.fixture(autouse=True)
def _on_a_living_node(monkeypatch):
    monkeypatch.setattr(supervisor, "require_own_node", lambda: None)


@pytest.fixture
def watch(make_bridge, monkeypatch):
    """Shows a supervisor one state of the cluster after another, 16 seconds apart, and returns what it told."""

    def show(*looks, nodes=None):
        bridge, told, clock = make_bridge(), [], itertools.count(1000, 16)
        bridge.notifier.tell = lambda event, text, **numbers: told.append((event, text))
        monkeypatch.setattr(supervisor, "taken", lambda resources: "1 of 2 CPUs")
        monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        fits, watcher = [], Supervisor(bridge, lambda: fits[-1])
        for fit, status, groups in looks:
            fits.append(fit)
            monkeypatch.setattr(supervisor, "places", lambda resources, held=nodes or fit: held)
            monkeypatch.setattr(supervisor, "own_groups", functools.partial(dict, enumerate(groups)))
            watcher.on_step_begin(0, [SimpleNamespace(status=each) for each in status])
        assert {event for event, _ in told} <= {"lost"}
        return [text for _, text in told]

    return show


def test_that_no_trial_fits_is_told_once_when_it_begins_and_once_when_it_ends(watch):
    told = watch((1, [], []), (0, [], []), (0, [], []), (1, [], []), (1, [], []))
    assert told == ["no trial fits on the nodes that are left; the study waits for more", AGAIN]


WAIT, RUN = (1, ["PENDING"], ["PENDING"]), (1, ["PENDING"], ["CREATED"])


def test_room_that_others_take_is_told_once_when_it_begins_and_once_when_it_ends(watch):
    """A trial's placement group that Ray has not made: the nodes are large enough, and others hold them."""
    room = "the cluster has room for no trial: 1 of 2 CPUs are taken by others; the study waits (look: ray status)"
    assert watch((1, [], []), WAIT, WAIT, WAIT, RUN, RUN) == [room, AGAIN]


ALL_RUN = (3, ["RUNNING"] * 3, [])
SHRUNK = (1, ["RUNNING", "PENDING", "PENDING"], ["CREATED", "RESCHEDULING", "PENDING"])


def test_trials_without_room_beside_one_that_runs_are_told_with_their_number(watch):
    """A node has gone, and what is left holds one of three; then one of the two that waited gets its place."""
    one_ended = (1, ["RUNNING", "PENDING"], ["CREATED", "RESCHEDULING"])
    told = watch(ALL_RUN, SHRUNK, SHRUNK, SHRUNK, one_ended, (1, ["RUNNING"], []))
    wait = "for room beside the others: the nodes that are left hold 1 at a time (look: ray status)"
    assert told == [f"2 trials wait {wait}", f"1 trial waits {wait}", AGAIN]


def test_it_is_others_who_take_the_room_where_the_nodes_would_hold_all_trials(watch):
    """Also when `concurrency` is lowered meanwhile."""
    waits = ["RUNNING", "PENDING"], ["CREATED", "PENDING"]
    told = watch(*[(2, *waits)] * 3, (1, *waits), (1, *waits), nodes=2)
    assert told == ["1 trial waits for room beside the others (look: ray status)"]


@pytest.mark.parametrize(
    "looks",
    [
        (WAIT, RUN, WAIT, RUN),
        (ALL_RUN, SHRUNK, ALL_RUN, SHRUNK),
        ((2, ["RUNNING", "PENDING"], ["CREATED", "CREATED"]),) * 3,  # its process is not yet there
    ],
)
def test_what_lasts_no_half_a_minute_is_not_told(watch, looks):
    assert watch(*looks) == []


def test_a_trial_has_time_to_get_its_room_on_a_node_that_came_back(make_bridge, monkeypatch):
    bridge, told = make_bridge(), []
    bridge.notifier.tell = lambda event, text, **numbers: told.append(text)
    monkeypatch.setattr(supervisor, "own_groups", lambda: {"a": "PENDING"})
    room = iter([0, 1])
    watcher = Supervisor(bridge, lambda: next(room))
    watcher._PERIOD, watcher._had_room = 0.0, -math.inf  # it has waited for the node for long
    watcher._roomless = {"a": -math.inf}
    watcher.on_step_begin(0, [])
    watcher.on_step_begin(1, [])
    assert told[1:] == [AGAIN]


def test_a_study_whose_directory_is_gone_ends_at_the_next_look(make_bridge):
    """Its trials would fail for good, or make another directory in its place."""
    bridge = make_bridge()
    bridge.directory.rename(bridge.directory.with_name("moved"))
    with pytest.raises(StudyAborted, match=r"study.yaml is not to be seen there any more \(moved, or"):
        Supervisor(bridge, lambda: 1).look([])
    bridge.directory.with_name("moved").rename(bridge.directory)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_has_lost_ends_the_study_at_the_next_look(make_bridge):
    watcher = Supervisor(make_bridge(), lambda: 1)
    with terminated_as_interrupt():
        lose(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            watcher.look([])


def test_a_spent_budget_ends_the_study_between_two_results(make_bridge):
    """A trial may train for hours before it reports anything."""
    bridge = make_bridge(budget={"hours": 1e-9})
    running = bridge.ask()
    Supervisor(bridge, lambda: 1).on_step_begin(0, [SimpleNamespace(status="RUNNING")])
    assert bridge.ending == "budget.hours = 1e-09 is over; a resume has as many again"
    assert (running.directory / "stop").exists()
