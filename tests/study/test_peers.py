"""Trials that are added after confirmations are judged by the search alone."""

from __future__ import annotations

import numpy as np
import pytest

from study import attributes
from study.assignment import Report
from study.bridge import Bridge
from study.directory import is_enough
from study.peers import Peers

SEARCH = (0.3, 0.35, 0.4, 0.45, 0.5)


def run(bridge: Bridge, accuracy: float) -> int:
    """The next trial, of this accuracy at steps 0 to 20: of each of ten problems."""
    assignment = bridge.ask()
    for step in range(0, 21, 5):
        report = Report(step, accuracy, samples=100, solved=(round(100 * accuracy),) * 10)
        if bridge.report(assignment.number, report):
            break
    bridge.finish(assignment.number)
    return assignment.number


def confirmed(make_bridge, pruner: dict) -> Bridge:
    """A bridge of which the five trials of `SEARCH` have ended, and four confirmations that are far better."""
    bridge = make_bridge(trials=5, pruner=pruner, replicas={"seeds": 2, "top": 2})
    for accuracy in (*SEARCH, *[0.9] * 4):
        run(bridge, accuracy)
    assert [attributes.CONFIRMS in each.user_attrs for each in bridge.study.trials] == [False] * 5 + [True] * 4
    return Bridge(bridge.study, bridge.spec.model_copy(update={"trials": 6}), bridge.directory)


@pytest.mark.parametrize("pruner", [{"name": "aime"}, {"name": "median"}])
@pytest.mark.parametrize(("accuracy", "state"), [(0.48, "COMPLETE"), (0.1, "PRUNED")])
def test_a_trial_that_is_added_is_compared_with_the_search(make_bridge, pruner, accuracy, state):
    bridge = confirmed(make_bridge, pruner)
    number = run(bridge, accuracy)
    assert bridge.study.trials[number].state.name == state


def test_so_is_a_race(make_bridge):
    bridge = confirmed(make_bridge, {"name": "aime"})
    number = bridge.ask().number
    bridge.look(number, step=5, samples=8, solved=[4] * 4 + [3] * 6)  # near the best of the search, far from the others
    assert not is_enough(bridge.directory / "trials" / f"{number:04d}", 5, 8)


def test_the_best_trial_is_that_of_the_search(make_bridge):
    bridge = confirmed(make_bridge, {"name": "wilcoxon"})
    assert bridge.study.best_trial.number > 4
    peers = Peers(bridge.study)
    assert peers.best_trial.number == np.argmax(SEARCH)
    assert [each.number for each in peers.get_trials()] == [0, 1, 2, 3, 4]
