"""Whether configurations differ beyond their seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from study.evidence import Evidence
from study.seeds import SeedDifference, difference, seed_test, seeds_against_settings


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


@pytest.mark.parametrize("seeds", [2, 3, 4])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_configuration_under_more_names_makes_no_difference_more_certain(seeds, copies):
    one, other = (0.967, 0.992, 0.975, 0.981)[:seeds], (0.979, 1.0, 0.983, 0.996)[:seeds]
    names = [confirmed(0, one), *(confirmed(n, other) for n in range(1, 2 + copies))]
    assert seed_test(names).p == pytest.approx(seed_test(names[:2]).p)


def test_configurations_that_do_nearly_the_same_differ_about_as_rarely_as_the_level_says():
    """In 15 of 100 studies, were their noises taken for independent."""
    random, differ = np.random.default_rng(0), 0
    for _ in range(1000):
        alone, together = random.normal(0.5, 0.05, (2, 4))
        found = [confirmed(0, alone), *(confirmed(n, together + random.normal(0, 0.01, 4)) for n in range(1, 5))]
        differ += not seed_test(found).alike
    assert 20 < differ < 100


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_what_a_run_varies_by_beside_its_seed_is_what_it_was_made_with(seeds):
    random = np.random.default_rng(0)
    drawn = random.normal(0.5, 0.05, (2000, 1, seeds)) + random.normal(0, 0.01, (2000, 5, seeds))
    noises = [seed_test([confirmed(n, run) for n, run in enumerate(study)]).noise for study in drawn]
    assert np.square(noises).mean() ** 0.5 == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize(
    ("seeds", "epsilon", "p"),
    [(5, 0.6773749048346225, 0.12694197761071432), (4, 0.5539486088165847, 0.3176514544643675)],
)
def test_how_far_configurations_move_together_is_that_of_huynh_and_feldt(seeds, epsilon, p):
    """By pingouin 0.7.0, ``epsilon(correction="hf")`` and ``rm_anova``."""
    runs = [[0.50, 0.62, 0.55, 0.71, 0.58], [0.52, 0.60, 0.57, 0.72, 0.55], [0.61, 0.59, 0.66, 0.70, 0.69]]
    test = seed_test([confirmed(n, each[:seeds]) for n, each in enumerate(runs)])
    assert (test.epsilon, test.p) == (pytest.approx(epsilon), pytest.approx(p))


def test_what_one_bad_control_makes_differ_is_told_without_it():
    good = [confirmed(1, (0.967, 0.979, 0.971)), confirmed(2, (0.971, 0.967, 0.979))]
    bad = [confirmed(3, (0.0, 0.0, 0.0)), confirmed(4, (0.4, 0.41, 0.42))]
    alone = seed_test(good)
    assert alone.alike and "best" not in seeds_against_settings(good)
    said = seeds_against_settings([*bad, *good])
    assert "4 confirmed configurations differ" in said
    assert said.endswith(f"; the best 2 of them do not (p = {alone.p:.2f})")
    equal = [confirmed(1, (0.9, 0.8, 0.9)), confirmed(2, (0.9, 0.8, 0.9)), confirmed(3, (0.1, 0.2, 0.0))]
    assert seeds_against_settings(equal).endswith("; the best 2 of them had the same metric with every seed")
    apart = [confirmed(n, [mean, mean + 0.001, mean + 0.0005 * n]) for n, mean in enumerate((0.2, 0.5, 0.8))]
    assert seeds_against_settings(apart).endswith("p < 0.01")


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
