"""What seeds say of the differences between configurations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from study.evidence import (
    Evidence,
    Run,
    SeedDifference,
    difference,
    error_in_words,
    evidence,
    highest_of,
    seed_test,
    seeds_against_settings,
)
from study.running import BY_HAND


def confirmed(number: int, runs: Sequence[float], *, first_seed: int = 1) -> Evidence:
    return Evidence(number, 0.5, dict(enumerate(runs, first_seed)))


def test_the_verdict_is_right_as_often_as_its_level_says_whatever_the_seeds_do_to_all():
    """One configuration under several names differs beyond noise in one of twenty studies, two in nearly all."""
    random = np.random.default_rng(0)
    verdicts = {0.0: 0, 0.3: 0}
    for gap in verdicts:
        for _ in range(400):
            seeds = random.normal(0, 0.2, 4)  # much more than what configurations scatter by
            found = [confirmed(n, random.normal(0.5 + gap * (n == 0), 0.05, 4) + seeds) for n in range(3)]
            verdicts[gap] += "do not differ" not in seeds_against_settings(found)
    assert 0.02 < verdicts[0.0] / 400 < 0.09
    assert verdicts[0.3] / 400 > 0.98


def test_the_test_of_configurations_is_the_textbooks():
    """Montgomery, Design and Analysis of Experiments, chapter 4: four tips on four pieces of metal, F = 14.44."""
    tips = [[9.3, 9.4, 9.6, 10.0], [9.4, 9.3, 9.8, 9.9], [9.2, 9.4, 9.5, 9.7], [9.7, 9.6, 10.0, 10.2]]
    said = seeds_against_settings([confirmed(n, tip) for n, tip in enumerate(tips)])
    # Its mean square of the error is 0.89 in tenths squared.
    assert "a run varies by 0.094 (standard deviation), F(3, 9) = 14.44, p < 0.01" in said


def run(number: int, value: float | None, confirms: int | None = None, *, lost: str = "collapsed") -> Run:
    return Run(number, value, confirms, seed=number, lost=lost)


@pytest.mark.parametrize(
    ("runs", "ranking"),
    [
        ([run(0, 0.9), run(1, 0.7)], [0, 1]),
        # Chosen before the other by a single run of each; that its mean is lower than that single run is no news.
        ([run(0, 0.9), run(1, 0.7), run(2, 0.6, 0), run(3, 0.6, 0)], [0, 1]),
        # A control, which is confirmed though others were better.
        ([run(0, 0.1), run(1, 0.9), run(2, 0.7), run(3, 0.2, 0), run(4, 0.2, 0), run(5, 0.8, 1)], [1, 2, 0]),
        # One that is as good as the chosen, or better, over the same seeds: what it did alone is no news then.
        ([run(0, 0.1), run(1, 0.9), run(2, 0.8), run(3, 0.7, 0), run(4, 0.6, 1)], [0, 1, 2]),
        ([run(0, 0.1), run(1, 0.9), run(2, 0.8), run(3, 0.6, 0), run(4, 0.6, 1)], [0, 1, 2]),
        (
            [run(0, 0.1), run(1, 0.9), run(2, 0.85), run(3, 0.8), run(4, 0.6, 0), run(5, 0.7, 1), run(6, 0.5, 2)],
            [1, 0, 2, 3],
        ),
        # A seed that is lost counts 0: 0.53 is less than 0.7, and more than 0.5.
        ([run(0, 0.9), run(1, 0.7), run(2, 0.8, 0), run(3, 0.8, 0), run(4, None, 0)], [1, 0]),
        ([run(0, 0.9), run(1, 0.5), run(2, 0.8, 0), run(3, 0.8, 0), run(4, None, 0, lost="failed")], [0, 1]),
        ([run(0, 0.9), run(1, 0.7), run(2, 0.6, 0), run(3, 0.6, 0), run(4, None, 0, lost=BY_HAND)], [0, 1]),
        # Both were chosen: what was stopped by hand makes no 0.45 of the 0.9.
        ([run(0, 0.9), run(1, 0.8), run(2, 0.9, 0), run(3, None, 0, lost=BY_HAND), run(4, 0.8, 1)], [0, 1]),
        ([run(0, 0.9), run(1, 0.1), run(2, None, 0), run(3, None, 0)], [1, 0]),
        ([run(0, 0.9), run(1, 0.9), run(2, 0.6, 0), run(3, 0.6, 0)], [0, 1]),
        ([run(0, 0.1), run(1, 0.9), run(2, 0.9), run(3, 0.7, 0), run(4, 0.6, 1)], [0, 1, 2]),
        # 0.45 of which half was lost is behind 0.4 of which nothing was.
        ([run(0, 0.9), run(1, 0.8), run(2, 0.4, 0), run(3, 0.9, 1), run(4, None, 1)], [0, 1]),
        # That the first was once 0.9 keeps none back: all its seeds were lost.
        ([run(0, 0.9), run(1, 0.8), run(2, 0.6), run(3, None, 0), run(4, 0.5, 1)], [1, 2, 0]),
    ],
    ids=[
        "single runs",
        "chosen",
        "control",
        "control ahead",
        "control alike",
        "control between",
        "lost",
        "lost and better",
        "by hand",
        "by hand and chosen",
        "all lost",
        "equals, one chosen",
        "equals, one chosen, and a control",
        "all confirmed",
        "the highest lost",
    ],
)
def test_configurations_are_ranked_by_what_their_runs_are_worth(runs, ranking):
    assert [each.number for each in evidence(runs)] == ranking


def test_confirmed_configurations_that_are_all_alike_are_not_told_apart_by_this_evaluation():
    said = seeds_against_settings([confirmed(0, (1.0, 1.0)), confirmed(1, (1.0, 1.0))])
    assert said == "2 confirmed configurations had the same metric with every seed: it tells none of them apart"


def test_without_two_configurations_with_seeds_in_common_there_is_no_verdict():
    assert seeds_against_settings([confirmed(0, (0.5, 0.6)), Evidence(1, 0.9)]) is None
    assert seeds_against_settings([confirmed(0, (0.5, 0.6)), confirmed(1, (0.5, 0.6), first_seed=2)]) is None


def test_what_every_seed_says_alike_has_no_measure_of_its_noise():
    apart = seeds_against_settings([confirmed(0, (0.5, 0.6)), confirmed(1, (0.7, 0.8))])
    assert "are the same with every seed" in apart and "no measure" in apart
    same = seeds_against_settings([confirmed(0, (0.888, 0.894, 0.869)), confirmed(1, (0.888, 0.894, 0.869))])
    assert "had the same metric with every seed" in same


def test_the_difference_of_two_configurations_is_paired_by_seed():
    """Simulated: seeds move both by 0.1, which is in neither the difference nor its error."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        seeds = random.normal(0, 0.1, 3)
        one, other = seeds + random.normal(0.6, 0.01, 3), seeds + random.normal(0.5, 0.02, 3)
        found.append(difference(dict(enumerate(one)), dict(enumerate(other))))
    gaps, errors, counts = np.array(found).T
    assert gaps.mean() == pytest.approx(0.1, abs=0.002) and set(counts) == {3}
    assert gaps.std() == pytest.approx(((0.01**2 + 0.02**2) / 3) ** 0.5, rel=0.05)
    assert (errors**2).mean() ** 0.5 == pytest.approx(gaps.std(), rel=0.05)


def test_only_seeds_that_both_have_are_compared():
    found = difference({1: 0.5, 2: 0.7, 3: 0.9}, {2: 0.5, 3: 0.6, 4: 0.1})
    assert found == (pytest.approx(0.25), pytest.approx(0.05), 2)
    assert difference({1: 0.5, 2: 0.7}, {2: 0.5, 3: 0.6}) is None
    assert difference({1: 0.5, 2: 0.7}, {1: 0.3, 2: 0.5}) == (pytest.approx(0.2), 0.0, 2)


def test_the_chance_of_a_difference_is_that_of_the_analysis_of_variance_of_the_two():
    """And three standard errors are little over few seeds."""
    runs = {1: 0.51, 2: 0.78, 3: 0.84}, {1: 0.40, 2: 0.60, 3: 0.81}
    test = seed_test([confirmed(0, tuple(runs[0].values())), confirmed(1, tuple(runs[1].values()))])
    assert difference(*runs).p == pytest.approx(test.p)
    assert SeedDifference(0.3, 0.1, 2).p == pytest.approx(0.205, abs=1e-3)
    assert SeedDifference(-0.3, 0.1, 3).p == pytest.approx(0.095, abs=1e-3)
    assert SeedDifference(0.3, 0.1, 30).in_words("aime") == "+0.300 ±0.100 on aime (p < 0.01)"


@pytest.mark.parametrize(("error", "words"), [(0.0, "(all the same)"), (0.0004, "±<0.001"), (0.0126, "±0.013")])
def test_an_error_over_seeds_is_never_written_as_zero(error, words):
    assert error_in_words(error) == words


@pytest.mark.parametrize(
    ("runs", "means"),
    [
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0), run(3, 0.7, 1)], 2),
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0)], 0),
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0), run(3, 0.8, 1)], 0),
        # Ranked second for the seed that collapsed, and higher in those that did not.
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0), run(3, 0.95, 1), run(4, None, 1)], 0),
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0), run(3, None, 1)], 0),
        # First by its own run, for what was to confirm it was stopped by hand.
        (
            [
                *(run(0, 0.9), run(1, 0.8), run(2, 0.7), run(3, None, 0, lost=BY_HAND)),
                *(run(4, 0.8, 1), run(5, None, 1), run(6, 0.7, 2), run(7, None, 2)),
            ],
            0,
        ),
    ],
)
def test_of_how_many_means_the_first_is_the_highest(runs, means):
    found = evidence(runs)
    assert found[0].number == 0 and highest_of(found) == means


def test_a_confirmed_configuration_stays_before_one_that_only_equals_its_first_run():
    """Both were perfect once: that the other was not tried again makes it no better."""
    runs = [run(0, 1.0), run(1, 1.0), run(2, 0.9), run(3, 0.98, 0), run(4, 0.99, 0)]
    assert [each.number for each in evidence(runs)] == [0, 1, 2]
