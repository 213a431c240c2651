from __future__ import annotations

from types import SimpleNamespace

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


@pytest.mark.parametrize(
    ("accuracy", "texts"),
    [(1.0, [">= 0.985, 95 %", ">= 0.884, 95 %"]), (0.0, ["<= 0.015, 95 %", "<= 0.116, 95 %"])],
)
def test_over_problems_a_bound_counts_problems_and_not_responses(accuracy: float, texts: list[str]) -> None:
    """0.025^(1/240) is 0.985 for 30 problems of 8 responses, 0.025^(1/30) is 0.884."""
    score = SimpleNamespace(
        accuracy=accuracy, samples=8, solved=(round(8 * accuracy),) * 30, sampling_error=0.0, problem_error=0.0
    )
    found = saturation.errors(score)
    assert [each.name for each in found] == ["sampling", "problems"] and [each.text for each in found] == texts
