"""The estimate without the luck of the choice: no bias where the truth is known, nothing taken where none is due."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.export import prepare
from study.export.selection import chosen_on_one_half, no_estimate, split_half
from tests.study.exported import make_results, papers, score


def with_solved(tmp_path, solved: np.ndarray, samples: int = 32, metric: str = "avg@k"):
    """A study whose trials solved these counts [trials, problems] of the selecting set."""
    results = make_results(tmp_path, papers(len(solved)))
    name = results.spec.evaluation_config().sets[0].name
    trials = tuple(
        replace(trial, evaluations=(trial.evaluations[-1].model_copy(update={"scores": (score(name, row, samples),)}),))
        for trial, row in zip(results.trials, solved.tolist(), strict=True)
    )
    spec = results.spec.model_copy(update={"metric": metric})
    return replace(results, trials=trials, spec=spec)


def biases(spread: float, studies: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the highest and of the corrected accuracy, in simulated studies of 14 trials, 30 problems and 8 samples.

    Trials differ by `spread`, problems in difficulty, and every trial likes some problems better than others. The truth
    is accuracy on problems without end: of the trial that looks best on all 30 (the first two), and of one that was
    chosen on 15 problems of its own (the third, of the corrected accuracy).
    """
    generator = np.random.default_rng(3)
    trials, problems, samples = 14, 30, 8
    highest, corrected, on_half = [], [], []
    for number in range(studies):
        skill = generator.normal(0, spread, (trials, 1))
        truth = solving(skill, generator, 2000).mean(axis=1)
        rates = generator.binomial(samples, solving(skill, generator, problems)) / samples
        half = generator.binomial(samples, solving(skill, generator, problems // 2)) / samples
        best, estimate = rates.mean(axis=1).argmax(), chosen_on_one_half(rates, halvings=10, seed=number)
        highest.append(rates.mean(axis=1).max() - truth[best])
        corrected.append(estimate - truth[best])
        on_half.append(estimate - truth[half.mean(axis=1).argmax()])
    return np.array(highest), np.array(corrected), np.array(on_half)


def standard_error(values: np.ndarray) -> float:
    return values.std(ddof=1) / np.sqrt(len(values))


def solving(skill: np.ndarray, generator: np.random.Generator, problems: int) -> np.ndarray:
    """[trials, problems]: chance that a sample is right."""
    difficulty = generator.normal(0, 1, (1, problems))
    liking = generator.normal(0, 0.5, (len(skill), problems))
    return 1 / (1 + np.exp(-(skill + difficulty + liking)))


def test_a_trial_that_confirms_another_was_not_chosen_among(tmp_path):
    solved = np.random.default_rng(0).integers(0, 33, (3, 30))
    results = with_solved(tmp_path, solved)
    first, second, third = results.trials
    again = replace(results, trials=(first, second, replace(third, confirms=0)))
    assert split_half(results).candidates == 3
    assert split_half(again) == split_half(replace(results, trials=(first, second)))


def test_among_equal_trials_the_corrected_accuracy_has_no_bias_and_the_highest_has():
    highest, corrected, _ = biases(spread=0.0)
    assert highest.mean() > 0.04
    assert abs(corrected.mean()) < 3 * standard_error(corrected)


def test_where_trials_differ_it_is_unbiased_for_a_choice_on_half_the_problems():
    """Such a choice is a little worse than one on all of them, so the truth lies between it and the highest."""
    highest, corrected, on_half = biases(spread=0.4)
    assert abs(on_half.mean()) < 3 * standard_error(on_half)
    assert highest.mean() > 5 * standard_error(highest)
    assert -highest.mean() < corrected.mean() < 0


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


@pytest.mark.parametrize(
    ("shape", "metric", "reason"),
    [((1, 30), "avg@k", "fewer than two trials"), ((3, 30), "cons@k", "votes"), ((3, 3), "avg@k", "fewer than four")],
)
def test_where_there_is_no_estimate_the_reason_is_told(tmp_path, shape, metric, reason):
    results = with_solved(tmp_path, np.full(shape, 8), metric=metric)
    assert split_half(results) is None
    assert reason in no_estimate(results)
    (one,) = prepare(results, "yaml", out=tmp_path / "best.yaml")
    assert f"of taking the best: none, since {no_estimate(results)}" in one.text
