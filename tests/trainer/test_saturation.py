from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from trainer import saturation


@pytest.mark.parametrize("problems", [1, 30])
@pytest.mark.parametrize("samples", [1, 8, 32])
def test_all_right_and_all_wrong_have_the_exact_interval_of_a_count(problems: int, samples: int) -> None:
    for accuracy in (0.0, 1.0):
        count = problems * samples
        exact = binomtest(round(accuracy * count), count).proportion_ci(0.95, method="exact")
        assert saturation.interval(accuracy, problems=problems, samples=samples) == pytest.approx(tuple(exact))


def test_the_interval_holds_the_accuracy_whatever_the_problems_are_like() -> None:
    """How often studies without spread leave out the true accuracy, over mixtures of easy and hard problems."""
    rng, missed, silent, drawn = np.random.default_rng(0), 0, 0, 4000
    for _ in range(drawn):
        chances = np.where(rng.random(6) < 0.5, rng.beta(0.3, 8, 6), 1 - rng.beta(0.3, 8, 6))
        solved = rng.binomial(4, chances)
        if not np.isin(solved, (0, 4)).all():
            continue
        silent += 1
        low, high = saturation.interval((solved / 4).mean(), problems=6, samples=4)
        missed += not low <= chances.mean() <= high
    assert silent / drawn > 0.2  # an interval without width would miss all of these
    assert missed / drawn <= 0.05


@pytest.mark.parametrize(("accuracy", "words"), [(1.0, "≥ 98.5 %"), (0.0, "≤ 1.5 %"), (0.9, "88.5 to 91.4 %")])
def test_a_side_that_cannot_be_passed_is_not_told(accuracy: float, words: str) -> None:
    assert saturation.in_words(accuracy, problems=30, samples=8) == words
