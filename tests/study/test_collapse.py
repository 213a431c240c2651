"""The collapse rule on metrics of a run: both signs at once, and neither alone."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from study.collapse import CollapseRule, collapse_reason
from trainer.records import SetScore

EVERY = 10
GOOD = [0.1, 0.3, 0.4, 0.45]
FALLEN = [*GOOD, 0.2, 0.1]


def score(accuracy: float, *, error: float | None = 0.01) -> SetScore:
    return SetScore(
        name="aime_2024", samples=32, solved=(0,) * 30, accuracy=accuracy, sampling_error=error, problem_error=0.05,
        cons=accuracy, pass_at_k=accuracy, mean_length=1.0, length_quantiles=(1.0,) * 5, truncated=0.0,
    )  # fmt: skip


def judge(
    accuracies: list[float], kl: float | None, *, rule: CollapseRule | None = None, error: float | None = 0.01
) -> str | None:
    """A run with policy KL 1e-4 that becomes `kl` for the steps after the fourth evaluation."""
    steps = range(1, (len(accuracies) - 1) * EVERY + 1)
    return collapse_reason(
        rule or CollapseRule(),
        [(step, 1e-4 if step <= 3 * EVERY else kl) for step in steps],
        [(index * EVERY, score(each, error=error)) for index, each in enumerate(accuracies)],
    )


def test_rising_policy_kl_and_falling_accuracy_are_a_collapse_that_says_its_numbers():
    reason = judge(FALLEN, 1e-3)
    assert (
        reason == "collapsed: aime_2024 fell from 0.450 at step 30 to 0.100 while policy KL rose from 0.0001 to 0.001"
    )


def test_policy_kl_is_held_against_what_it_was_until_the_best_evaluation():
    """However long the run goes on after it: most steps are of the collapse here."""
    assert judge([*GOOD, 0.4, 0.38, 0.36, 0.34, 0.2, 0.1], 1e-3) is not None


def test_a_run_that_falls_from_its_first_step_is_held_against_the_steps_to_its_first_evaluation():
    falling = [(index * EVERY, score(each)) for index, each in enumerate([0.4, 0.2, 0.05, 0.0])]
    for kl, collapsed in ((4e-4, False), (6e-4, True)):
        known = [(step, 1e-4 if step <= EVERY else kl) for step in range(1, 3 * EVERY + 1)]
        reason = collapse_reason(CollapseRule(), known, falling)
        assert (reason is not None) is collapsed
    assert "fell from 0.400 at step 0 to 0.000 while policy KL rose from 0.0001 to 0.0006" in reason
    assert collapse_reason(CollapseRule(patience=1), known, falling[:2]) is None  # there is no rise yet


def test_policy_kl_around_nothing_is_held_against_its_size():
    """Its median is 1e-6, then -1e-6; both runs scatter by 1e-4."""
    evaluations = [(index * EVERY, score(each)) for index, each in enumerate(FALLEN)]
    for middle in (1e-6, -1e-6):
        quiet = [(step, (-1e-4, middle, 1e-4)[step % 3]) for step in range(1, 3 * EVERY + 1)]
        for kl, collapsed in ((4e-4, False), (6e-4, True)):
            known = [*quiet, *((step, kl) for step in range(3 * EVERY + 1, 5 * EVERY + 1))]
            assert (collapse_reason(CollapseRule(), known, evaluations) is not None) is collapsed


def test_rising_policy_kl_with_growing_accuracy_is_none():
    assert judge([*GOOD, 0.5, 0.55], 1e-3) is None


def test_falling_accuracy_with_a_quiet_policy_is_none():
    assert judge(FALLEN, 2e-4) is None


def test_one_bad_evaluation_is_not_enough():
    assert judge([*GOOD, 0.1], 1e-3) is None
    assert judge([*GOOD, 0.1], 1e-3, rule=CollapseRule(patience=1)) is not None
    assert judge([*GOOD, 0.1, 0.44], 1e-3) is None


def test_a_drop_within_the_sampling_error_is_none():
    assert judge(FALLEN, 1e-3, error=0.1) is None


def test_the_error_of_a_drop_is_that_of_both_evaluations():
    """A drop of 0.35 is less than 3 * sqrt(2) * 0.09 = 0.38, and more than 3 * sqrt(2) * 0.08 = 0.34."""
    assert judge([*GOOD, 0.1, 0.1], 1e-3, error=0.09) is None
    assert judge([*GOOD, 0.1, 0.1], 1e-3, error=0.08) is not None


def test_the_step_of_the_best_evaluation_is_of_the_time_before_the_fall():
    scores = [(step, score(accuracy)) for step, accuracy in enumerate((0.3, 0.45, 0.2, 0.1))]
    assert "from 0.450 at step 1" in collapse_reason(CollapseRule(), [(1, 1e-4), (2, 1e-3), (3, 1e-3)], scores)


def test_policy_kl_of_the_step_of_an_evaluation_is_of_the_time_before_it():
    """With step 2 the median since then would be 3.5e-4, less than five times 1e-4."""
    scores = [(step, score(accuracy)) for step, accuracy in enumerate((0.45, 0.2, 0.1), 1)]
    assert "to 0.0006" in collapse_reason(CollapseRule(), [(1, 1e-4), (2, 1e-4), (3, 6e-4)], scores)


def test_with_one_sample_per_problem_the_drop_alone_decides():
    assert judge(FALLEN, 1e-3, error=None) is not None


@pytest.mark.parametrize("kl", [None, math.nan])
def test_unknown_policy_kl_never_stops_a_run(kl):
    assert judge(FALLEN, kl) is None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_evaluations_are_none(count):
    assert judge(FALLEN[:count], 1e-3) is None


def test_a_higher_factor_and_a_wider_drop_stop_later():
    assert judge(FALLEN, 1e-3, rule=CollapseRule(policy_kl_factor=20)) is None
    assert judge(FALLEN, 1e-3, rule=CollapseRule(accuracy_drop=0.4)) is None


@pytest.mark.parametrize("change", [{"policy_kl_factor": 1}, {"accuracy_drop": 0}, {"deviations": -1}, {"patience": 0}])
def test_a_rule_out_of_range_is_refused(change):
    with pytest.raises(ValidationError):
        CollapseRule(**change)
