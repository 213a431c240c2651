"""The trials of simulated studies, built on the paper's AIME curves.

A trial is a curve of true accuracy; evaluation at a step draws k responses to each of 30 problems.

Problems follow a Rasch model: problem i is solved with probability sigmoid(theta - b_i + u_i). Difficulty b_i lies on
the quantiles of N(0, SPREAD^2), u_i, how this trial differs on this problem, is N(0, INTERACTION^2) and drifts, and
theta is set so that the mean over the 30 problems is the curve: what k responses each would show without their noise.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, ndtri

Array = np.ndarray
DATA = Path(__file__).parent / "data" / "aime_2024_avg32.csv"
PROBLEMS, SAMPLES = 30, 32
SPREAD = 3.0
"""Logits. With it avg@32 has the step-to-step noise of the paper's curves (0.009 to 0.013), and cons@32 is about 0.56
at avg@32 0.45 and 0.70 at 0.58 (Figures 1 and 12: 0.52 to 0.56 and 0.70), if 3 of 10 responses make a majority."""
INTERACTION = 0.8
"""Logits. With it trials of equal accuracy differ problem by problem about as much as AIME 2024 minus AIME 2025 does
over the four half-lives of the paper's Table 6 (standard deviation 0.034)."""
DRIFT = 0.95
"""Correlation of u between two evaluations; an assumption."""
FAMILIES = ("paper", "sweep", "collapse", "crossing", "flat", "uninformative")
TRIALS = 32


@dataclass(frozen=True)
class Paper:
    """`accuracy` [runs, evaluations] of the paper's runs at `steps`, lightly smoothed: the noise is drawn anew."""

    steps: tuple[int, ...]
    runs: tuple[str, ...]
    raw: Array
    accuracy: Array


@functools.cache
def paper() -> Paper:
    """The curves of `benchmarks/data`."""
    with DATA.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    runs = tuple(dict.fromkeys(row["run"] for row in rows))
    steps = tuple(sorted({int(row["step"]) for row in rows}))
    raw = np.array([float(row["accuracy"]) for row in rows]).reshape(len(runs), len(steps))
    # The mean of three, the ends continued by the last slope; the base model is known exactly.
    ends = np.concatenate([2 * raw[:, :1] - raw[:, 1:2], raw, 2 * raw[:, -1:] - raw[:, -2:-1]], axis=1)
    smooth = (ends[:, :-2] + ends[:, 1:-1] + ends[:, 2:]) / 3
    smooth[:, 0] = raw[:, 0]
    return Paper(steps, runs, raw, smooth)


def curves(family: str, count: int, random: np.random.Generator) -> Array:
    """True accuracy [count, evaluations] of trials of `family`.

    paper: the paper's runs, each trial one of the seven, its rise scaled by N(1, 0.05). The others are built on
    mixtures of the seven with that scale. sweep: slowed to 0.4..1 and scaled by 0.3..1.05, as poor learning rates do.
    collapse: sweep, and 3 in 10 fall back to the base model from a random step. crossing: half start at half speed and
    end up to a tenth higher. flat: one curve for all, which part in the last 3 tenths of the run. uninformative: one
    curve, and an N(0, 0.03) of its own at each evaluation, so that the past tells nothing.
    """
    data = paper()
    steps, share = np.array(data.steps, dtype=float), np.array(data.steps) / data.steps[-1]
    curve = random.dirichlet(np.full(len(data.runs), 0.5), count) @ data.accuracy
    if family == "paper":
        curve = data.accuracy[random.integers(len(data.runs), size=count)]
    scale = random.normal(1, 0.05, (count, 1))

    def slowed(speed: Array) -> Array:
        return np.stack([np.interp(steps * v, steps, row) for v, row in zip(speed, curve, strict=True)])

    if family in ("sweep", "collapse"):
        curve = slowed(random.uniform(0.4, 1, count))
        scale = random.uniform(0.3, 1.05, (count, 1))
    elif family == "crossing":
        late = slowed(np.full(count, 0.5))
        late += (1.1 * curve - late) * share**2
        curve = np.where(random.random((count, 1)) < 0.5, late, curve)
    elif family == "flat":
        curve = np.broadcast_to(data.accuracy.mean(axis=0), curve.shape)
        scale = 1 + random.normal(0, 0.06, (count, 1)) * np.clip((share - 0.7) / 0.3, 0, 1)
    elif family == "uninformative":
        curve = np.broadcast_to(data.accuracy.mean(axis=0), curve.shape) + random.normal(0, 0.03, curve.shape)
        curve[:, 0], scale = data.accuracy[0, 0], np.ones((count, 1))
    elif family != "paper":
        raise ValueError(f"unknown {family=}; known: {', '.join(FAMILIES)}")
    rise = scale * (curve - curve[:, :1])
    if family == "collapse":
        start = random.uniform(0.2, 0.9, (count, 1))
        fall = np.clip(1 - (share - start) / 0.3, 0, 1)
        rise = np.where(random.random((count, 1)) < 0.3, rise * fall, rise)
    return curve[:, :1] + rise


def responses(accuracy: Array, random: np.random.Generator, *, samples: int = SAMPLES) -> Array:
    """Correct responses [trials, evaluations, problems], each 0..samples, of trials with true `accuracy`.

    The first evaluation is the base model's, the same for all trials: seeds leave the trial out.
    """
    difficulty = SPREAD * ndtri((np.arange(PROBLEMS) + 0.5) / PROBLEMS)
    noise = random.normal(0, INTERACTION, (*accuracy.shape, PROBLEMS))
    for step in range(1, accuracy.shape[1]):
        noise[:, step] = DRIFT * noise[:, step - 1] + np.sqrt(1 - DRIFT**2) * noise[:, step]
    solved = random.binomial(samples, solve_rates(accuracy, noise - difficulty))
    solved[:, 0] = solved[0, 0]
    return solved


def solve_rates(accuracy: Array, ease: Array) -> Array:
    """sigmoid(theta + `ease`) [..., problems], theta by bisection so that its mean over problems is `accuracy`."""
    low, high = np.full(accuracy.shape, -30.0), np.full(accuracy.shape, 30.0)
    for _ in range(50):
        theta = (low + high) / 2
        too_low = expit(theta[..., None] + ease).mean(axis=-1) < accuracy
        low, high = np.where(too_low, theta, low), np.where(too_low, high, theta)
    return expit(((low + high) / 2)[..., None] + ease)


@dataclass(frozen=True)
class World:
    """The trials of one study: true accuracy [trials, evaluations], correct responses after 1 to `SAMPLES` draws
    [trials, evaluations, problems, SAMPLES], hours per step of each trial."""

    accuracy: Array
    solved: Array
    pace: Array


def world(family: str, seed: int) -> World:
    """The trials of study `seed` of a family, in the order in which they are asked for."""
    random = np.random.default_rng((FAMILIES.index(family), seed))
    accuracy = curves(family, TRIALS, random)
    solved, pace = responses(accuracy, random), random.lognormal(0, 0.15, TRIALS)
    drawn = random.permuted(np.arange(SAMPLES) < solved[..., None], axis=-1)
    drawn[:, 0] = drawn[0, 0]
    return World(accuracy, drawn.cumsum(axis=-1, dtype=np.int8), pace)
