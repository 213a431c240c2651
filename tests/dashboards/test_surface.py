from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from dashboards import surface


def trials(score: object, *, count: int = 40, noise: float = 0.0, error: float = 0.01) -> pl.DataFrame:
    """Random points of a half-life over decades and a bound, with a score that `score` tells of both (as 0..1)."""
    rng = np.random.default_rng(3)
    across, up = rng.random(count), rng.random(count)
    values = score(across, up) + noise * rng.normal(size=count)  # type: ignore[operator]
    return pl.DataFrame({"tau": 4 * 64**across, "eps": 0.4 * up, "score": values, "error": [error] * count})


def slope(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    return 0.3 + 0.4 * up + 0.1 * across


def test_the_map_repeats_a_smooth_truth_within_its_error() -> None:
    found = surface.surface(trials(slope, noise=0.01), "tau", "eps")
    assert found is not None and found.informs and found.trials == 40
    by_chance = dataclasses.replace(found, gain=1.0)
    assert by_chance.closer and not by_chance.informs
    across = np.log(np.array(found.x) / 4) / np.log(64)
    up = np.array(found.y) / 0.4
    truth = slope(*np.meshgrid(across, up))
    known = np.isfinite(found.mean)
    assert known.mean() > 0.9
    miss = np.abs(found.mean - truth)[known]
    assert np.median(miss) < 0.01
    assert (miss < 3 * found.error[known]).mean() > 0.95


def test_the_error_is_of_the_mean_and_not_of_one_more_trial() -> None:
    found = surface.surface(trials(slope, noise=0.1, error=0.001), "tau", "eps")
    assert found is not None
    assert 0.01 < np.nanmedian(found.error) < 0.06  # a trial scatters by 0.1, and some ten tell of each place


def test_an_error_that_trials_scatter_by_changes_nothing_and_one_three_times_as_large_widens_the_map() -> None:
    frames = [trials(slope, noise=0.02, error=error) for error in (0.0, 0.02, 0.06)]
    unseen, right, large = (np.nanmedian(surface.surface(frame, "tau", "eps").error) for frame in frames)  # type: ignore[union-attr]
    assert right == pytest.approx(unseen, rel=0.1) and large > 2 * right


def test_the_error_grows_away_from_the_trials() -> None:
    frame = trials(slope, noise=0.01).filter((pl.col("eps") < 0.2) | (pl.col("tau") < 32))
    found = surface.surface(frame, "tau", "eps")
    assert found is not None
    error = np.nan_to_num(found.error, nan=np.inf)
    assert error[-1, -1] > 2 * error[surface.GRID // 4, surface.GRID // 4]


def test_a_score_that_the_two_do_not_tell_is_said_not_to_be_told() -> None:
    found = surface.surface(trials(lambda across, up: 0 * up, noise=0.1), "tau", "eps")
    assert found is not None and not found.informs
    assert found.left_out_error == pytest.approx(found.spread, rel=0.1)


def test_what_a_left_out_trial_is_missed_by_is_what_fitting_without_it_gives() -> None:
    """The closed form against leaving each of three points out by hand, with covariance exp(-d^2/2) + 0.1."""
    points, values = np.array([0.0, 1.0, 2.5]), np.array([1.0, -0.5, 0.2])
    covariance = np.exp(-((points[:, None] - points) ** 2) / 2) + 0.1 * np.eye(3)
    misses = []
    for i in range(3):
        rest = [j for j in range(3) if j != i]
        told = covariance[i, rest] @ np.linalg.solve(covariance[np.ix_(rest, rest)], values[rest])
        misses.append(values[i] - told)
    assert surface._left_out(covariance, values) == pytest.approx(misses)


def test_a_map_that_beats_the_mean_at_one_trial_only_is_not_believed() -> None:
    values = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    everywhere, once = 0.5 * values, np.where(np.arange(8) == 0, 0.0, 8 / 7 * values)
    assert surface._gain(everywhere, values) > 2 > surface._gain(1.05 * once, values)


@pytest.mark.parametrize(
    "frame",
    [
        trials(slope, count=surface.FEWEST - 1),
        trials(slope).with_columns(pl.lit(0.2).alias("eps")),
        trials(slope).with_columns(pl.lit(0.5).alias("score")),
        trials(slope).with_columns(pl.when(pl.col("tau").rank() < 5).then("eps").alias("eps")),
    ],
    ids=["few trials", "one value", "one score", "few values"],
)
def test_without_enough_that_differs_there_is_no_map(frame: pl.DataFrame) -> None:
    assert surface.surface(frame, "tau", "eps") is None


def test_of_many_trials_a_part_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface, "MOST", 20)
    found = surface.surface(trials(slope, noise=0.01), "tau", "eps")
    assert found is not None and found.trials == 20
