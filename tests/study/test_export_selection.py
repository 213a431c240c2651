"""The estimate without the luck of the choice: pessimism where there is only luck, none where the best is best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.export.selection import split_half
from tests.study.exported import PAPER, make_results, score


def with_solved(tmp_path, solved: np.ndarray, samples: int = 32, metric: str = "avg@k"):
    """A study whose trials solved these counts [trials, problems] of the selecting set."""
    results = make_results(tmp_path, [PAPER] * len(solved))
    name = results.spec.evaluation_config().sets[0].name
    trials = tuple(
        replace(trial, evaluations=(trial.evaluations[-1].model_copy(update={"scores": (score(name, row, samples),)}),))
        for trial, row in zip(results.trials, solved.tolist(), strict=True)
    )
    spec = results.spec.model_copy(update={"metric": metric})
    return replace(results, trials=trials, spec=spec)


def test_among_equal_trials_the_gain_of_choosing_is_luck_and_is_taken_back(tmp_path):
    """16 trials of true accuracy 0.5: the best shows more, the estimate shows 0.5 within its spread."""
    solved = np.random.default_rng(0).binomial(8, 0.5, (16, 30))
    estimate = split_half(with_solved(tmp_path, solved, samples=8))
    assert estimate.selected > 0.53
    assert estimate.corrected == pytest.approx(0.5, abs=0.02)


def test_a_trial_that_is_better_on_every_problem_keeps_its_accuracy(tmp_path):
    solved = np.array([[3] * 30, [3] * 30, [24] * 30])
    estimate = split_half(with_solved(tmp_path, solved))
    assert estimate.corrected == estimate.selected == pytest.approx(0.75)
    assert estimate.candidates == 3


def test_the_estimate_is_the_same_every_time(tmp_path):
    results = with_solved(tmp_path, np.random.default_rng(1).binomial(32, 0.4, (5, 30)))
    assert split_half(results) == split_half(results)


def test_pass_at_k_counts_problems_solved_at_all(tmp_path):
    solved = np.array([[1] * 15 + [0] * 15, [1] * 30])
    assert split_half(with_solved(tmp_path, solved, metric="pass@k")).corrected == 1.0


@pytest.mark.parametrize(("trials", "metric"), [(1, "avg@k"), (3, "cons@k")])
def test_there_is_no_estimate_without_a_choice_or_without_votes(tmp_path, trials, metric):
    solved = np.full((trials, 30), 8)
    assert split_half(with_solved(tmp_path, solved, metric=metric)) is None
