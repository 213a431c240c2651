"""What seeds say of the differences between configurations."""

from __future__ import annotations

import numpy as np
import pytest

from study.evidence import Evidence, difference, error_in_words, seeds_against_settings


def test_the_verdict_is_right_as_often_as_its_level_says():
    """One configuration under several names differs beyond noise in one of twenty studies, two in nearly all."""
    random = np.random.default_rng(0)
    verdicts = {0.0: 0, 0.3: 0}
    for gap in verdicts:
        for _ in range(400):
            found = [Evidence(n, 0.5, tuple(random.normal(0.5 + gap * (n == 0), 0.05, 4))) for n in range(3)]
            verdicts[gap] += "do not differ" not in seeds_against_settings(found)
    assert 0.02 < verdicts[0.0] / 400 < 0.09
    assert verdicts[0.3] / 400 > 0.98


def test_without_two_confirmed_configurations_there_is_no_verdict():
    assert seeds_against_settings([Evidence(0, 0.5, (0.5, 0.6)), Evidence(1, 0.9)]) is None
    agree = seeds_against_settings([Evidence(0, 0.5, (0.5, 0.5)), Evidence(1, 0.9, (0.9, 0.9))])
    assert "do not differ at all" in agree and "says nothing" in agree and "0.0" not in agree


def test_the_difference_of_two_means_has_the_error_of_both():
    """Simulated: one group of three seeds with a spread of 0.01, one of four with 0.04."""
    random = np.random.default_rng(0)
    found = [difference(random.normal(0.6, 0.01, 3), random.normal(0.5, 0.04, 4)) for _ in range(4000)]
    gaps, errors = np.array(found).T
    assert gaps.mean() == pytest.approx(0.1, abs=0.002)
    assert (errors**2).mean() ** 0.5 == pytest.approx(gaps.std(), rel=0.05)


@pytest.mark.parametrize(("error", "words"), [(0.0, "(all the same)"), (0.0004, "±<0.001"), (0.0126, "±0.013")])
def test_an_error_over_seeds_is_never_written_as_zero(error, words):
    assert error_in_words(error) == words
