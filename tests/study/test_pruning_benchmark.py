"""The pruning simulator: its responses reproduce the paper's curves, and its outcomes follow from what happened."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pruning import LENGTHS, RACING, Outcome, pruners, simulate, table
from benchmarks.pruning_limit import Judged, most_saved
from benchmarks.worlds import FAMILIES, PROBLEMS, SAMPLES, TRIALS, World, curves, paper, responses, world
from study.spec import Plugin


def test_the_stored_curves_are_the_papers_at_both_ends():
    """Base model 29/960 in every run; the end of each lies between the lowest and highest curve of Figures 8 and 12."""
    data = paper()
    assert len(data.runs) == 7
    assert data.steps[0] == 0
    assert np.allclose(data.raw[:, 0], 29 / 960, atol=1e-4)
    assert data.raw[:, -1].min() > 0.4
    assert data.raw[:, -1].max() < 0.55


def test_responses_reproduce_the_curves_on_average():
    accuracy = np.repeat(paper().accuracy, 100, axis=0)
    solved = responses(accuracy, np.random.default_rng(1))[:, 1:]
    mean = solved.mean(axis=2).reshape(7, 100, -1) / SAMPLES
    error = mean.std(axis=1, ddof=1) / 10
    # 98 points: 5 standard errors leave a chance below 1e-4 of a false alarm
    assert (np.abs(mean.mean(axis=1) - paper().accuracy[:, 1:]) < 5 * error).all()


def test_the_base_model_is_the_same_for_all_trials_and_later_steps_are_not():
    solved = world("paper", 0).solved
    assert solved.shape[2] == PROBLEMS
    assert (solved[:, 0] == solved[0, 0]).all()
    assert not (solved[:, 1] == solved[0, 1]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_true_accuracies_start_at_the_base_model_and_stay_fractions(family):
    accuracy = curves(family, 50, np.random.default_rng(0))
    assert np.allclose(accuracy[:, 0], paper().accuracy[0, 0])
    assert accuracy.min() >= 0
    assert accuracy.max() < 0.7


def test_in_the_flat_family_nothing_before_the_last_third_tells():
    accuracy = curves("flat", 50, np.random.default_rng(0))
    two_thirds = 2 * accuracy.shape[1] // 3
    assert np.ptp(accuracy[:, :two_thirds], axis=0).max() == 0
    assert np.ptp(accuracy[:, -1]) > 0.02


def test_a_study_that_never_prunes_saves_nothing():
    outcome = simulate(Plugin(name="none"), world("sweep", 0))
    assert outcome.saved == 0
    assert not outcome.best_pruned


def test_steps_saved_are_those_after_the_stop():
    """Trial 0 solves 30 of 32, the others 9; a threshold between, from step 100 on, stops the others at 100."""
    trials = world("sweep", 0)
    trials.solved[..., -1], trials.solved[0, ..., -1] = 9, 30
    outcome = simulate(Plugin(name="threshold", lower=0.9, n_warmup_steps=100), trials)
    assert outcome.saved == pytest.approx((TRIALS - 1) / TRIALS * (1 - 100 / paper().steps[-1]))
    spent = sum(LENGTHS[:5]) / sum(LENGTHS)  # five intervals of 20 steps, the shortest responses
    assert outcome.tokens_saved == pytest.approx((TRIALS - 1) / TRIALS * (1 - spent))


def test_pruning_the_best_is_seen_and_its_regret_is_the_true_gap():
    """Trial 5 looks hopeless at first and is truly best. Optuna's median pruner takes a trial's best value so far, so
    the base model solves nothing here."""
    count, evaluations = 6, len(paper().steps)
    accuracy = np.full((count, evaluations), 0.3)
    accuracy[:, -1] = [0.3, 0.31, 0.32, 0.33, 0.34, 0.6]
    solved = np.zeros((count, evaluations, PROBLEMS, SAMPLES), dtype=int)
    solved[..., -1] = np.rint(accuracy * SAMPLES)[..., None]
    solved[:, 0] = solved[5, 1:-1] = 0
    outcome = simulate(Plugin(name="median", n_startup_trials=2), World(accuracy, solved, np.ones(count)))
    assert outcome.best_pruned
    assert outcome.saved > 0
    assert 0.6 - 0.34 <= outcome.regret <= 0.6 - 0.3


def test_the_table_gives_each_family_and_all_of_them():
    found = {
        ("paper", "none"): [Outcome(0.0, 0.0, 0.0, False, 0.01), Outcome(0.0, 0.0, 0.0, False, 0.01)],
        ("flat", "none"): [Outcome(0.5, 0.8, 0.7, True, 0.03), Outcome(0.5, 0.8, 0.7, True, 0.03)],
    }
    total = table(found).splitlines()[-1]
    assert total.split()[:3] == ["all", "none", "4"]
    assert "25.0%" in total
    assert "40.0%" in total
    assert "35.0%" in total
    assert "50.0%" in total
    assert "2.00" in total


def test_a_race_draws_the_responses_of_the_study_without_one_and_fewer():
    trials = world("sweep", 1)
    drawn = trials.solved.astype(int)
    assert set(np.diff(drawn, axis=-1).ravel()) <= {0, 1}
    aime = pruners(paper().steps[-1], paper().steps[1])[RACING]
    whole, raced = (simulate(aime, trials, races=races) for races in (False, True))
    assert raced.undrawn > whole.undrawn >= 0
    assert simulate(Plugin(name="none"), trials, races=True).undrawn == 0  # no one says that there are enough


@pytest.mark.slow
def test_every_compared_pruner_runs_a_study():
    for plugin in pruners(paper().steps[-1], paper().steps[1]).values():
        assert 0 <= simulate(plugin, world("sweep", 1)).saved < 1


def test_a_family_has_its_number_of_trials():
    assert world("collapse", 3).solved.shape[0] == TRIALS


def test_the_limit_keeps_the_best_and_saves_the_more_the_surer_the_judge_is():
    judged = Judged("sweep", 20, 30, noise=False)
    guessed = most_saved([judged])
    judged.chance = np.broadcast_to(judged.best[..., None].astype(float), judged.chance.shape)
    known = most_saved([judged])  # all but the best trial end at the first evaluation after the base model's
    steps = paper().steps
    assert known == pytest.approx((TRIALS - 1) / TRIALS * (1 - steps[1] / steps[-1]))
    judged.chance = np.broadcast_to(1 - judged.chance, judged.chance.shape)  # the best is stopped wherever any is
    assert most_saved([judged]) < guessed < known
