"""The difference of two trials over the same problems, and when it has an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study.paired import Paired, last_pair, paired
from tests.study.exported import make_results, papers, score


def test_a_trial_minus_itself_is_zero_and_shows_no_error() -> None:
    same = score("sums", [1, 2, 3] * 10, 8)
    assert paired(same, same) == Paired(0.0, None, 30, 0, 0)
    assert paired(same, same).counts == "the same on all 30"


def test_the_paired_difference_is_the_difference_of_the_accuracies() -> None:
    """Also where a race ended early, with another k."""
    draw = np.random.default_rng(0)
    first, second = (
        score("sums", draw.integers(0, 9, 30).tolist(), 8),
        score("sums", draw.integers(0, 4, 30).tolist(), 3),
    )
    gap = paired(first, second)
    assert gap.difference == pytest.approx(first.accuracy - second.accuracy)
    rates = np.array(first.solved) / 8 - np.array(second.solved) / 3
    assert gap.error == pytest.approx(rates.std(ddof=1) / np.sqrt(len(rates)))


@pytest.mark.parametrize("changed", [4, 5])
def test_few_problems_that_differ_are_counted_in_place_of_an_error(changed: int) -> None:
    gap = paired(score("sums", [2] * changed + [1] * (30 - changed), 8), score("sums", [1] * 30, 8))
    assert gap.counts == f"better on {changed}, worse on 0 of 30 problems" and (gap.error is None) == (changed < 5)


def test_a_gap_that_is_the_same_on_every_problem_is_no_spread_though_floats_would_be_one() -> None:
    gap = paired(score("sums", [2, 3, 8] * 10, 10), score("sums", [1, 2, 7] * 10, 10))
    assert (gap.difference, gap.error) == (pytest.approx(0.1), None)


def test_trials_that_end_on_different_problems_have_no_last_pair(tmp_path: Path) -> None:
    results = make_results(tmp_path, papers(2))
    name, (first, second) = results.spec.selecting.name, results.trials
    found = last_pair(results, name, 1, 0)
    assert found is not None and found[0] == second.evaluations[-1].step and found[1].problems == 30
    fewer = second.evaluations[-1].model_copy(update={"scores": (score(name, [1] * 29, 32),)})
    other = replace(second, evaluations=(*second.evaluations[:-1], fewer))
    assert last_pair(replace(results, trials=(first, other)), name, 1, 0) is None


def test_scores_over_different_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="30 and 29 problems"):
        paired(score("sums", [1] * 30, 8), score("sums", [1] * 29, 8))
