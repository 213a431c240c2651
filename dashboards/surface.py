"""An estimate of the score over two parameters, and how far it can be trusted: a Gaussian process. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from dashboards import palette

FEWEST, MOST = 8, 300
"""Trials that a map needs, and those it takes: its cost grows with their cube."""
GRID = 41
ENOUGH = 2.0
"""Standard errors by which a map must miss less than the mean does."""
UNKNOWN = 0.9
"""Where the error is over this share of what it would be without any trial, the map says nothing."""


@dataclass(frozen=True)
class Surface:
    """The score over the plane of two parameters; arrays are [GRID up, GRID across], null where nothing is known."""

    x: list[float]
    y: list[float]
    mean: np.ndarray
    error: np.ndarray
    """One standard error of the mean."""
    trials: int
    left_out_error: float
    """How far the map misses a trial that it was not told of: root mean square, in units of the score."""
    spread: float
    """Standard deviation of the scores: what a map that knows only their mean would miss by."""
    gain: float
    """How much less the map's squared misses are than those of the other trials' mean, in standard errors of that."""

    @property
    def informs(self) -> bool:
        """Whether the two parameters tell a trial's score: a tenth better than the mean does, and not by chance."""
        return self.closer and self.gain > ENOUGH

    @property
    def closer(self) -> bool:
        """Whether it misses a tenth less than the mean does, by chance or not."""
        return self.left_out_error < 0.9 * self.spread


def surface(scores: pl.DataFrame, x: str, y: str, *, seed: int = 0) -> Surface | None:
    """Fit the score of `scores.at_step` over `x` and `y`; None with fewer than `FEWEST` trials or without differences.

    Length scales, the height and the noise are fitted by likelihood. The noise holds what the other parameters and the
    training seed do, beside each trial's own sampling error. Of more than `MOST` trials a random part is taken.
    """
    known = scores.select(x, y, "score", pl.col("error").fill_null(0.0)).drop_nulls()
    if known.height > MOST:
        known = known.sample(MOST, seed=seed)
    if known.height < FEWEST or min(known[key].n_unique() for key in (x, y, "score")) < 2:
        return None
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    axes = [_Axis(known[key]) for key in (x, y)]
    points = np.column_stack([axis.unit(known[key].to_numpy()) for axis, key in zip(axes, (x, y), strict=True)])
    spread = float(known["score"].std(ddof=0))
    values = (known["score"].to_numpy() - known["score"].mean()) / spread
    sampling = (known["error"].to_numpy() / spread) ** 2
    height = ConstantKernel(1.0, (0.05, 20.0)) * RBF([0.5, 0.5], (0.2, 20.0))
    process = GaussianProcessRegressor(
        height + WhiteKernel(0.1, (1e-3, 2.0)), alpha=sampling + 1e-8, n_restarts_optimizer=1, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound was reached: a length scale beyond the plane
        process.fit(points, values)
    lines = [axis.line() for axis in axes]
    units = [axis.unit(np.array(line)) for axis, line in zip(axes, lines, strict=True)]
    grid = np.array([(across, up) for up in units[1] for across in units[0]])
    mean, deviation = process.predict(grid, return_std=True)
    noise = process.kernel_.k2.noise_level
    error = np.sqrt(np.maximum(deviation**2 - noise, 0.0))  # of the mean, not of one more trial
    known_there = error < UNKNOWN * math.sqrt(process.kernel_.k1.k1.constant_value)
    shape = (GRID, GRID)
    misses = _left_out(process.kernel_(points) + np.diag(sampling + 1e-8), values)
    mean = np.where(known_there, mean * spread + float(known["score"].mean()), np.nan)
    return Surface(
        x=lines[0], y=lines[1], mean=mean.reshape(shape),
        error=np.where(known_there, error * spread, np.nan).reshape(shape), trials=known.height,
        left_out_error=spread * float(np.sqrt(np.mean(misses**2))), spread=spread, gain=_gain(misses, values),
    )  # fmt: skip


def _left_out(covariance: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Errors of leave-one-out predictions (Rasmussen and Williams 2006, eq. 5.12)."""
    inverse = np.linalg.inv(covariance)
    return (inverse @ values) / np.diag(inverse)


def _gain(misses: np.ndarray, values: np.ndarray) -> float:
    """Mean of what squared misses are less than those of the mean of the others, over its standard error."""
    count = len(values)
    gains = ((values - values.mean()) * count / (count - 1)) ** 2 - misses**2
    return float(gains.mean() / (gains.std(ddof=1) / math.sqrt(count) + 1e-12))


class _Axis:
    """One parameter's span, by its logarithm where its chart has a logarithmic axis."""

    def __init__(self, values: pl.Series) -> None:
        scale = palette.scale(values.to_list(), dark=False)
        assert scale is not None
        self.scale, (self.low, self.high) = scale, scale.bounds

    def unit(self, values: np.ndarray) -> np.ndarray:
        """Positions 0..1 of `values`."""
        return ((np.log10(values) if self.scale.log else values) - self.low) / (self.high - self.low)

    def line(self) -> list[float]:
        """`GRID` values at even distances."""
        positions = np.linspace(self.low, self.high, GRID)
        return (10**positions if self.scale.log else positions).tolist()
