"""Training metrics of some trials as one long frame, and how each is called. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from dashboards import frames
from study.results import read_metrics

if TYPE_CHECKING:
    from study.results import StudyResults, TrialResult


@dataclass(frozen=True)
class Quantity:
    """A metric and how it is titled: name, unit, the paper's figures that show it."""

    metric: str
    """Key of `metrics.jsonl`; accuracy/* are of the evaluation set that selects."""
    title: str
    figures: str = ""


GROUPS = {
    "Accuracy": (
        Quantity("accuracy/avg", "accuracy, avg@k", "1, 8f, 12e"),
        Quantity("accuracy/cons", "accuracy of the majority, cons@k", "1, 12f"),
        Quantity("accuracy/pass", "solved at least once, pass@k"),
    ),
    "Response length, of the groups trained on": (
        Quantity("response_length/mean", "mean length (tokens)", "3c, 6b, 12a"),
        Quantity("response_length/median", "median length (tokens)", "3d, 8c"),
        Quantity("response_length/q25", "lower quartile (tokens)", "3b, 8b"),
        Quantity("response_length/q75", "upper quartile (tokens)", "3e, 8d"),
        Quantity("response_length/min", "shortest (tokens)", "3a, 8a"),
        Quantity("response_length/truncated", "truncated responses (fraction)"),
    ),
    "Reward": (
        Quantity("reward/mean", "reward, mean of the groups trained on", "4a"),
        Quantity("rollout/accuracy", "training accuracy, of all sampled (fraction)"),
        Quantity("sampled_batches", "batches sampled per step", "4b"),
        Quantity("groups_kept", "groups with an advantage, per step"),
    ),
    "Stability": (
        Quantity("policy_kl", "policy KL (nats per token)", "2b, 5a, 7a"),
        Quantity("grad_norm", "gradient norm", "2c, 5b, 7b, 12c"),
        Quantity("entropy", "entropy (nats per token)", "5c, 7c, 8e, 10a, 11c, 12d"),
        Quantity("clip_fraction", "clipped tokens (fraction)", "9c, 12b"),
        Quantity("dual_clip_fraction", "dual-clipped tokens (fraction)", "2a, 9b"),
        Quantity("dropped_sequence_fraction", "dual-clipped responses left out (fraction)"),
        Quantity("rollout_gap/mean", "rollout gap, mean size (nats per token)"),
        Quantity("future_kl/noise_floor", "future KL of the rollout gap alone (noise floor)"),
    ),
    "Credit": (
        Quantity("influence_weight/mean", "influence weight, mean", "9a, 11a"),
        Quantity("influence_weight/clip_fraction", "influence weights at a bound (fraction)", "11b"),
        Quantity("advantage/length_weighted_mean", "advantage, length-weighted mean", "4c, 6a"),
    ),
}
BOUND = "influence_weight/clip_fraction"
QUANTITIES = tuple(each for group in GROUPS.values() for each in group)
SCHEMA = {"trial": pl.Int64, "label": pl.String, "step": pl.Int64, "metric": pl.String, "value": pl.Float64}


def training(results: StudyResults, trials: Sequence[int]) -> pl.DataFrame:
    """Long frame `SCHEMA` of the `QUANTITIES` of the given trials, finite values only, in step order.

    Accuracy stands at the steps of evaluations, from the base model's (0); cons@k and pass@k, which mean another thing
    for another k, only where an evaluation is whole. Influence weights at a bound have no rows where every weight is 1,
    and at both of them. A trial before its first training step has no rows.
    """
    known = [each.metric for each in QUANTITIES]
    selects = results.spec.selecting
    parts = [pl.DataFrame(schema=SCHEMA)]
    for trial in results.trials:
        if trial.number not in trials:
            continue
        wide = read_metrics(trial)
        if wide.is_empty():
            continue
        dapo = results.config(trial).fipo.is_dapo
        present = [metric for metric in known if metric in wide.columns and not (metric == BOUND and dapo)]
        long = wide.select("step", *present).unpivot(index="step", variable_name="metric", value_name="value")
        parts += [_named(trial, long), _named(trial, _accuracy(trial, selects.name, selects.samples))]
    return pl.concat(parts).filter(pl.col("value").is_finite()).sort("trial", "metric", "step")


def smoothed(training: pl.DataFrame, window: int) -> pl.DataFrame:
    """Each value replaced by the mean of the last `window` steps (fewer at the start); evaluations stay as they are."""
    mean = pl.col("value").rolling_mean(window, min_samples=1).over("trial", "metric")
    rare = pl.col("metric").str.starts_with("accuracy/")
    return training.with_columns(pl.when(rare).then("value").otherwise(mean).alias("value"))


def accuracy(results: StudyResults, trials: Sequence[int], set_name: str) -> pl.DataFrame:
    """The accuracies of the given trials on one set, as `training` has them of the set that selects."""
    parts = [pl.DataFrame(schema=SCHEMA)]
    samples = next((each.samples for each in results.spec.evaluation_config().sets if each.name == set_name), 1)
    for trial in results.trials:
        if trial.number in trials:
            parts.append(_named(trial, _accuracy(trial, set_name, samples)))
    return pl.concat(parts).filter(pl.col("value").is_finite()).sort("trial", "metric", "step")


def _named(trial: TrialResult, frame: pl.DataFrame) -> pl.DataFrame:
    names = (pl.lit(trial.number).alias("trial"), pl.lit(frames.label(trial)).alias("label"))
    return frame.select(*names, "step", "metric", "value").cast(SCHEMA)


def _accuracy(trial: TrialResult, set_name: str, samples: int) -> pl.DataFrame:
    rows = []
    for step, score in trial.scores(set_name).items():
        values = {"avg": score.accuracy}
        if score.samples >= samples:
            values |= {"cons": score.cons, "pass": score.pass_at_k}
        rows += [(step, f"accuracy/{name}", value) for name, value in values.items()]
    return pl.DataFrame(rows, schema={key: SCHEMA[key] for key in ("step", "metric", "value")}, orient="row")
