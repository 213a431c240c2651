from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dashboards import frames, scores
from dashboards.figures import plane
from dashboards.surface import Surface
from study.results import StudyResults

X, Y = "fipo.half_life", "fipo.epsilon_f_high"


@pytest.fixture
def known(finished: StudyResults) -> pl.DataFrame:
    return scores.at_step(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", step=5)


@pytest.fixture
def surface() -> Surface:
    grid = np.arange(12.0).reshape(3, 4) / 20
    return Surface([4, 8, 16, 32], [0, 0.2, 0.4], grid, grid / 10, trials=12, left_out_error=0.01, spread=0.1, gain=3)


def test_the_map_is_a_heat_map_with_contours_and_the_trials_on_one_scale(known: pl.DataFrame, surface: Surface) -> None:
    contour, *points = plane.estimate(known, X, Y, measure="m", surface=surface).data
    assert (contour.type, contour.contours.coloring, contour.contours.showlabels) == ("contour", "heatmap", True)
    assert np.array_equal(contour.z, surface.mean)
    assert {(trace.marker.cmin, trace.marker.cmax) for trace in points} == {(contour.zmin, contour.zmax)}
    assert sum(len(trace.x) for trace in points) == known.height


def test_the_bar_says_that_its_lowest_colour_is_also_that_of_an_outlier(known: pl.DataFrame, surface: Surface) -> None:
    scores = [0.5, *(0.92 + 0.01 * (i % 5) for i in range(known.height - 1))]
    with_outlier = known.with_columns(pl.Series("score", scores))
    contour = plane.estimate(with_outlier, X, Y, measure="m", surface=surface).data[0]
    marker = plane.estimate(with_outlier, X, Y, measure="m", surface=None).data[0].marker
    for low, bar in ((contour.zmin, contour.colorbar), (marker.cmin, marker.colorbar)):
        assert bar.tickvals[0] == low > 0.5
        assert bar.ticktext[0] == f"≤ {low:.0%}" and "≤" not in "".join(bar.ticktext[1:])


def test_the_bar_of_scores_that_all_have_a_colour_of_their_own_says_no_more(known: pl.DataFrame) -> None:
    even = known.with_columns(pl.Series("score", [0.5 + 0.01 * i for i in range(known.height)]))
    assert plane.estimate(even, X, Y, measure="m", surface=None).data[0].marker.colorbar.tickvals is None


def test_without_a_map_the_trials_still_tell_their_score(known: pl.DataFrame) -> None:
    figure = plane.estimate(known, X, Y, measure="sums_select/avg@8", surface=None)
    assert {trace.type for trace in figure.data} == {"scatter"}
    assert figure.data[0].marker.colorbar.title.text == "sums_select/avg@8"


def test_the_uncertainty_is_in_points_and_shows_where_trials_lie(known: pl.DataFrame, surface: Surface) -> None:
    contour, points = plane.uncertainty(known, X, Y, surface=surface).data
    assert np.allclose(contour.z, 100 * surface.error)
    assert "points" in contour.hovertemplate
    assert len(points.x) == known.height


def test_a_half_life_says_its_gamma(known: pl.DataFrame) -> None:
    layout = plane.estimate(known, X, Y, measure="m", surface=None).layout
    ticks = dict(zip(layout.xaxis.tickvals, layout.xaxis.ticktext, strict=True))
    assert all(text.endswith(f"γ {2 ** (-1 / tau):.3g}") for tau, text in ticks.items())


@pytest.mark.parametrize("values", [(4.0, 64.0), (2.0, 6.0), ("first", "second")])
def test_points_that_share_a_spot_stand_around_it_and_others_on_it(
    values: tuple[object, object], known: pl.DataFrame
) -> None:
    """As with choices: the last to be drawn, which is the worst, would hide the best."""
    one, other = values
    four = known.head(4).with_columns(
        pl.Series(X, [one, one, one, other], strict=False), pl.lit(0.3).alias(Y), pl.lit("COMPLETE").alias("state")
    )
    (trace,) = plane.estimate(four, X, Y, measure="m", surface=None).data
    across = np.log10(trace.x) if values == (4.0, 64.0) else np.array(trace.x)
    spot = {4.0: np.log10(4.0), 2.0: 2.0, "first": 0.0}[one]
    assert len({(round(x, 6), round(y, 6)) for x, y in zip(trace.x, trace.y, strict=True)}) == 4
    assert np.isclose(across[:3].mean(), spot) and np.isclose(np.mean(trace.y[:3]), 0.3)
    span = np.ptp([spot, across[3]])
    assert np.allclose(np.hypot((across[:3] - spot) / span, np.array(trace.y[:3]) - 0.3), plane.APART)
    assert trace.y[3] == 0.3 and np.isclose(across[3], {64.0: np.log10(64.0), 6.0: 6.0, "second": 1.0}[other])


def test_names_are_the_ticks_of_an_axis_that_is_drawn_by_number(known: pl.DataFrame) -> None:
    named = known.with_columns(pl.Series(X, ["b" if i % 2 else "a" for i in range(known.height)]))
    axis = plane.estimate(named, X, Y, measure="m", surface=None).layout.xaxis
    assert (axis.type, axis.tickvals, axis.ticktext) == ("linear", (0, 1), ("a", "b"))


def test_many_points_of_one_spot_stand_farther_from_it_and_do_not_reach_the_next(known: pl.DataFrame) -> None:
    twelve, hundred = (
        pl.concat([known.head(1)] * count).with_columns(
            pl.Series(X, [2.0] * (count - 1) + [6.0]), pl.Series(Y, [0.3] * count), pl.lit("COMPLETE").alias("state")
        )
        for count in (13, 101)
    )
    for many, reach in ((twelve, 2 * plane.APART), (hundred, plane.FARTHEST)):
        (trace,) = plane.estimate(many, X, Y, measure="m", surface=None).data
        assert np.isclose(np.max(np.abs(np.array(trace.x[:-1]) - 2.0)), reach * 4.0, rtol=0.01)
