from __future__ import annotations

import re

import polars as pl
import pytest

from dashboards import palette


def luminance(colour: str) -> float:
    """Relative luminance of an rgb() or hex colour (WCAG 2)."""
    if colour.startswith("#"):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    else:
        channels = [float(each) / 255 for each in re.findall(r"[\d.]+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("dark", "page"), [(False, "#FFFFFF"), (True, "#171714")])
def test_every_step_of_the_scale_can_be_told_from_the_page(dark: bool, page: str) -> None:
    assert min(contrast(colour, page) for colour in palette.sequential(dark)) > 1.4


@pytest.mark.parametrize("dark", [False, True])
def test_lightness_rises_along_the_scale(dark: bool) -> None:
    steps = [luminance(colour) for colour in palette.sequential(dark)]
    assert steps == sorted(steps)


def test_states_differ_by_shape_as_well_as_by_colour() -> None:
    assert len(set(palette.STATE_SYMBOLS.values())) == len(set(palette.STATE_COLOURS.values())) == 6


def test_more_than_a_decade_is_spread_by_the_logarithm() -> None:
    scale = palette.scale([1e-5, 1e-3, None, float("nan")], dark=False)
    assert scale is not None and scale.log
    assert scale.bounds == pytest.approx((-5, -3))
    assert scale.ticks == pytest.approx([1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3])


@pytest.mark.parametrize(
    ("low", "high", "count"), [(3, 2e3, 9), (1, 1e3, 10), (0.925, 6.2e15, 8), (5e-324, 1.7e308, 10)]
)
def test_the_ticks_of_a_logarithmic_scale_can_be_read_whatever_its_range(low: float, high: float, count: int) -> None:
    scale = palette.scale([low, high], dark=False)
    assert scale is not None and scale.log and len(scale.ticks) == count
    assert low <= scale.ticks[0] and scale.ticks[-1] <= high and scale.ticks == sorted(scale.ticks)


def test_values_through_zero_stay_linear() -> None:
    scale = palette.scale([0.0, 0.4], dark=False)
    assert scale is not None and not scale.log
    assert scale.ticks == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("ends", "span"), [((1, 1), (0.9, 1)), ((0, 0), (0, 0.1)), ((0.5, 0.52), (0.46, 0.56)), ((0.2, 0.6), (0.2, 0.6))]
)
def test_an_axis_of_accuracy_is_never_narrow_and_stays_within_0_and_100(
    ends: tuple[float, float], span: tuple[float, float]
) -> None:
    assert palette.least_span(*ends) == pytest.approx(span)


def test_equal_scores_still_have_a_span_of_colours() -> None:
    assert palette.span(pl.Series([1.0, 1.0])) == pytest.approx((0.9, 1.0))


def test_no_value_gives_no_scale() -> None:
    assert palette.scale([None, float("nan")], dark=False) is None


def test_a_trial_has_one_colour_whichever_order_it_is_chosen_in_and_controls_stand_out() -> None:
    colours = palette.by_trial({7: None, 0: "DAPO", 3: None}, dark=False)
    assert colours == {0: palette.foreground(False), 3: palette.CATEGORIES[0], 7: palette.CATEGORIES[1]}
