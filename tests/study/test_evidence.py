"""What seeds say of the differences between configurations."""

from __future__ import annotations

import numpy as np

from study.evidence import Evidence, seeds_against_settings


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
    assert "says nothing" in seeds_against_settings([Evidence(0, 0.5, (0.5, 0.5)), Evidence(1, 0.9, (0.9, 0.9))])
