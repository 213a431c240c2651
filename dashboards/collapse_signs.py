"""Where a run shows the signs in which the paper's Figure 2 collapses. Pure functions.

There the dual-clip fraction jumps, policy KL and the gradient norm with it, then responses become shorter (steps 69
to 71 of arXiv 2603.19835). Each alone is common: DAPO's policy KL rises for hundreds of steps, gradients have single
peaks. So policy KL must stay up, and another sign must stand beside it.

This warns a reader and stops nothing: it sees a collapse begin within steps, before any evaluation. What stops a run
is `collapse` of the study file, `study/collapse.py`: policy KL beside an accuracy that has fallen, with factors of its
own, since a run that was stopped does not come back.
"""

from __future__ import annotations

import polars as pl

from dashboards.metrics import SCHEMA

DUAL_CLIP, POLICY_KL, GRAD_NORM, LENGTH = "dual_clip_fraction", "policy_kl", "grad_norm", "response_length/mean"
PAST, FEWEST = 30, 10
"""Steps before a sign that say what is usual, and how many there must be."""
KL_FACTOR, KL_STEPS, DUAL_CLIP_FACTOR, GRAD_FACTOR, SHORTER = 3.0, 3, 3.0, 2.0, 0.9
NEAR = 5
"""Steps around the rise of policy KL in which the other signs count."""
SIGNS_SCHEMA = {key: SCHEMA[key] for key in ("trial", "label", "metric", "step")} | {"factor": pl.Float64}


def collapse_signs(training: pl.DataFrame) -> pl.DataFrame:
    """The first collapse of each trial in `metrics.training` as columns `SIGNS_SCHEMA`, one row per sign.

    Signs, against the `PAST` steps before: policy KL over 3 times the median of its size for 3 steps (it is an estimate
    that scatters around 0 in a quiet run, so its own median may be next to nothing); beside it, within `NEAR` steps, a
    dual-clip fraction over 3 times its highest, a gradient norm over twice its median, or a mean length under 0.9 of
    its median of the last `NEAR` steps. `factor` is the value over what it is compared with.
    """
    found = []
    for (trial, label), own in training.group_by("trial", "label", maintain_order=True):
        series = {
            metric: own.filter(pl.col("metric") == metric).sort("step").select("step", "value").rows()
            for metric in (DUAL_CLIP, POLICY_KL, GRAD_NORM, LENGTH)
        }
        found += [(trial, label, *sign) for sign in _first(series)]
    return pl.DataFrame(found, schema=SIGNS_SCHEMA, orient="row")


def sentence(signs: pl.DataFrame) -> str:
    """The signs of one trial in the order of their steps, for a reader."""
    said = {
        DUAL_CLIP: "the dual-clip fraction jumps",
        POLICY_KL: "policy KL is {factor:.1f} times its usual size",
        GRAD_NORM: "the gradient norm is {factor:.1f} times its median",
        LENGTH: "mean length falls to {percent:.0f} % of what it was",
    }
    parts = [
        said[row["metric"]].format(factor=row["factor"], percent=100 * row["factor"]) + f" at step {row['step']}"
        for row in signs.sort("step").iter_rows(named=True)
    ]
    return f"{signs['label'][0]}: {', '.join(parts)}. In the paper's Figure 2 a run that does so collapses."


def _first(series: dict[str, list[tuple[int, float]]]) -> list[tuple[str, int, float]]:
    """The signs (metric, step, factor) around the first rise of policy KL that has another beside it."""
    others = {
        DUAL_CLIP: (lambda past: max(past), lambda value, usual: value > DUAL_CLIP_FACTOR * usual),
        GRAD_NORM: (_median, lambda value, usual: value > GRAD_FACTOR * usual > 0),
        LENGTH: (lambda past: _median(past[-NEAR:]), lambda value, usual: value < SHORTER * usual),
    }
    for rise, factor in _rises(series[POLICY_KL]):
        signs = [(POLICY_KL, rise, factor)]
        for metric, (usual_of, is_sign) in others.items():
            past = [value for step, value in series[metric] if rise - NEAR - PAST <= step < rise - NEAR]
            if len(past) < (1 if metric == DUAL_CLIP else FEWEST):  # the highest needs no typical value
                continue
            usual = usual_of(past)
            near = [(step, value) for step, value in series[metric] if abs(step - rise) <= NEAR]
            sign = next(((step, value) for step, value in near if is_sign(value, usual)), None)
            if sign is not None:
                signs.append((metric, sign[0], sign[1] / usual if usual else float("inf")))
        if len(signs) > 1:
            return signs
    return []


def _rises(values: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Steps at which policy KL begins to stay above `KL_FACTOR` usual sizes, and how far above the highest is."""
    found, above = [], 0
    for i in range(FEWEST, len(values)):
        begin = i - above
        usual = _median([abs(value) for _, value in values[max(0, begin - PAST) : begin]])
        above = above + 1 if values[i][1] > KL_FACTOR * usual > 0 else 0
        if above == KL_STEPS:
            begin = i - above + 1
            found.append((values[begin][0], max(value for _, value in values[begin : i + 1]) / usual))
    return found


def _median(values: list[float]) -> float:
    return float(pl.Series(values).median() or 0.0)
