"""Training metrics of some trials as one long frame, and the signs that a run is about to collapse. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from study.results import read_metrics

if TYPE_CHECKING:
    from study.results import StudyResults


@dataclass(frozen=True)
class Quantity:
    """A metric of `metrics.jsonl` and how it is titled: name, unit, the paper's figures that show it."""

    metric: str
    title: str
    figures: str = ""


QUANTITIES = (
    Quantity("response_length/mean", "response length, mean (tokens)", "3c, 6b, 12a"),
    Quantity("response_length/median", "response length, median (tokens)", "3d, 8c"),
    Quantity("response_length/q25", "response length, lower quartile (tokens)", "3b, 8b"),
    Quantity("response_length/q75", "response length, upper quartile (tokens)", "3e, 8d"),
    Quantity("response_length/min", "response length, shortest (tokens)", "3a, 8a"),
    Quantity("response_length/truncated", "truncated responses (fraction)"),
    Quantity("reward/mean", "reward, mean", "4a"),
    Quantity("rollout/accuracy", "training accuracy (fraction)"),
    Quantity("sampled_batches", "batches sampled per step", "4b"),
    Quantity("advantage/length_weighted_mean", "advantage, length-weighted mean", "4c, 6a"),
    Quantity("policy_kl", "policy KL (nats per token)", "2b, 5a, 7a"),
    Quantity("grad_norm", "gradient norm", "2c, 5b, 7b, 12c"),
    Quantity("entropy", "entropy (nats per token)", "5c, 7c, 8e, 10a, 11c, 12d"),
    Quantity("clip_fraction", "clipped tokens (fraction)", "9c, 12b"),
    Quantity("dual_clip_fraction", "dual-clipped tokens (fraction)", "2a, 9b"),
    Quantity("influence_weight/mean", "influence weight, mean", "9a, 11a"),
    Quantity("influence_weight/clip_fraction", "influence weights at a bound (fraction)", "11b"),
    Quantity("future_kl/noise_floor", "future KL before any update (noise floor)"),
)
WARNING_METRICS = ("policy_kl", "grad_norm")
WARNING_FACTOR, WARNING_STEPS, WARNING_WARMUP = 3.0, 3, 10
SCHEMA = {"trial": pl.Int64, "label": pl.String, "step": pl.Int64, "metric": pl.String, "value": pl.Float64}


def training(results: StudyResults, trials: Sequence[int]) -> pl.DataFrame:
    """Long frame `SCHEMA` of the `QUANTITIES` of the given trials, finite values only, in step order."""
    known = [each.metric for each in QUANTITIES]
    parts = [pl.DataFrame(schema=SCHEMA)]
    for trial in results.trials:
        if trial.number not in trials:
            continue
        wide = read_metrics(trial)
        if wide.is_empty():
            continue
        label = f"{trial.control} (#{trial.number})" if trial.control else f"#{trial.number}"
        present = [metric for metric in known if metric in wide.columns]
        long = wide.select("step", *present).unpivot(index="step", variable_name="metric", value_name="value")
        parts.append(
            long.select(pl.lit(trial.number).alias("trial"), pl.lit(label).alias("label"), *list(SCHEMA)[2:]).cast(
                SCHEMA
            )
        )
    return pl.concat(parts).filter(pl.col("value").is_finite()).sort("trial", "metric", "step")


def smoothed(training: pl.DataFrame, window: int) -> pl.DataFrame:
    """Each value replaced by the mean of the last `window` steps (fewer at the start)."""
    mean = pl.col("value").rolling_mean(window, min_samples=1).over("trial", "metric")
    return training.with_columns(mean)


def early_warnings(training: pl.DataFrame) -> pl.DataFrame:
    """Where the paper's collapse signature begins: columns trial, label, metric, step.

    A warning is the first of 3 steps in a row whose policy KL or gradient norm is over 3 times its median so far (the
    first 10 steps are not judged). The factor is set so that the collapsed run of Figure 2 is caught, at the step at
    which its length turns, and 32B FIPO of Figure 5 is not.
    """
    found = []
    for (trial, label, metric), own in training.group_by("trial", "label", "metric", maintain_order=True):
        if metric not in WARNING_METRICS:
            continue
        step = _first_excess(own["step"].to_list(), own["value"].to_list())
        if step is not None:
            found.append({"trial": trial, "label": label, "metric": metric, "step": step})
    return pl.DataFrame(found, schema={key: SCHEMA[key] for key in ("trial", "label", "metric", "step")})


def _first_excess(steps: list[int], values: list[float]) -> int | None:
    above = 0
    series = pl.Series(values)
    for i in range(WARNING_WARMUP, len(values)):
        # The median of what came before this excess began, which the excess itself must not raise.
        median = series[: i - above].median()
        above = above + 1 if values[i] > WARNING_FACTOR * float(median) > 0 else 0  # type: ignore[arg-type]
        if above == WARNING_STEPS:
            return steps[i - above + 1]
    return None
