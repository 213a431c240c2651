"""The race to the best full trial: it counts what was trained, and the study without pruning always gets there."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.contestants import Asha, contestant
from benchmarks.pruning import evaluated
from benchmarks.steps_to_best import FULL, SPACE, Reached, Trials, completions, race, reaching, studied, trials, unit
from benchmarks.worlds import PROBLEMS, SAMPLES, paper
from study.assignment import Report
from study.spec import Plugin

LAST = paper().steps[-1]


def flat(rates: list[float]) -> Trials:
    """Trial n solves every problem at `rates[n]`, at every evaluation."""

    def trial(number: int, params: object) -> tuple[np.ndarray, np.ndarray]:
        rate = rates[number % len(rates)]
        evaluations = len(paper().steps)
        return np.full(evaluations, rate), np.full((evaluations, PROBLEMS), round(rate * SAMPLES))

    return Trials(trial, np.ones(1000))


def test_without_pruning_every_trial_is_trained_to_its_end():
    with studied("none", 0, FULL) as study:
        found = list(completions(study, flat([0.25, 0.5])))
    assert [accuracy for _, accuracy in found[:-1]] == pytest.approx([0.25, 0.5] * (FULL // 2))
    assert found[-1] == (FULL * LAST, -1.0)


def test_steps_of_running_and_pruned_trials_are_counted():
    """Four at a time: when the first one completes, the other three stand at their last evaluation or just before."""
    with studied("none", 0, FULL) as study:
        first, _ = next(iter(completions(study, flat([0.5]))))
    assert first == LAST + 3 * paper().steps[-2]


def test_the_study_without_pruning_reaches_its_own_target():
    found = race("sweep", 0, ["tune-asha"])
    assert all(found["none"].reached)
    exactly, nearly = found["none"].steps
    assert 0 < nearly <= exactly <= FULL * LAST
    assert found["tune-asha"].steps[0] > 0


def test_a_study_that_misses_the_target_is_charged_all_it_trained():
    course = iter([(280, 0.3), (500, 0.395), (900, 0.2), (1000, -1.0)])
    assert reaching(course, 0.4) == Reached(steps=(1000, 500), reached=(False, True))


def test_nothing_is_trained_beyond_the_target():
    course = iter([(280, 0.3), (500, 0.5), (900, 0.6)])
    assert reaching(course, 0.45) == Reached(steps=(500, 500), reached=(True, True))
    assert next(course) == (900, 0.6)


def test_tunes_asha_stops_what_falls_behind_and_its_search_is_told():
    sampler = Plugin(name="random", seed=0)
    asha = Asha(grace_period=20, reduction_factor=2)
    with contestant(asha, sampler=sampler, space=SPACE, trials=3, steps=LAST) as study:
        solved = {0: 20, 1: 20, 2: 1}
        stopped = {}
        for number, correct in solved.items():
            asked = study.ask()
            assert asked is not None
            assert asked[0] == number
            assert set(asked[1]) == set(SPACE)
            stopped[number] = study.report(number, evaluated(1, np.full(PROBLEMS, correct)))
            study.finish(number)
        assert study.ask() is None
    assert stopped == {0: False, 1: False, 2: True}


def test_tunes_asha_ends_a_trial_at_its_last_step():
    with contestant(Asha(), sampler=Plugin(name="random", seed=0), space=SPACE, trials=1, steps=LAST) as study:
        study.ask()
        assert study.report(0, Report(LAST, 1.0))


def test_sampled_values_are_measured_on_the_scale_they_are_sampled_on():
    low, high = ({key: each[end] for key, each in SPACE.items()} for end in ("low", "high"))
    middle = {"optimizer.learning_rate": 1e-6, "fipo.half_life": 2 * 128**0.5, "fipo.epsilon_f_high": 0.25}
    for params, place in ((low, 0.0), (middle, 0.5), (high, 1.0)):
        assert unit(params) == pytest.approx(np.full(len(SPACE), place))


def test_in_a_landscape_the_height_follows_from_the_sampled_values():
    """Close to one corner of the space it is not as close to the opposite one."""
    world = trials("landscape", 3, FULL)
    ends = [world.trial(0, {key: each[end] for key, each in SPACE.items()})[0][-1] for end in ("low", "low", "high")]
    assert ends[0] == ends[1]
    assert abs(ends[0] - ends[2]) > 0.01
