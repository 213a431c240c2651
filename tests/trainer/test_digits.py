"""Fractions as they are written."""

from __future__ import annotations

import math

import pytest

from dashboards.text import points
from trainer.digits import decimal


def test_the_terminal_and_the_dashboard_round_every_count_of_responses_alike():
    for responses in (240, 960):
        for right in range(responses + 1):
            assert float(decimal(right / responses)) == pytest.approx(float(points(right / responses)) / 100, abs=1e-9)


@pytest.mark.parametrize(
    ("fraction", "digits", "signed", "written"),
    [
        (159 / 240, 3, False, "0.663"),
        (0.0, 3, False, "0.000"),
        (1.0, 4, False, "1.0000"),
        (0.6, 4, False, "0.6000"),
        (0.0128, 3, True, "+0.013"),
        (-0.0125, 3, True, "-0.013"),
        (0.00002, 3, False, "0.000"),
        (math.nan, 3, False, "NaN"),
    ],
)
def test_a_half_goes_up_and_all_digits_are_written(fraction, digits, signed, written):
    assert decimal(fraction, digits=digits, signed=signed) == written
