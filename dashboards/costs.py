"""What a study cost and what pruning spared. Pure functions.

Steps are training steps; times are seconds of one trial's wall time, which occupies all of that trial's devices.
"""

from __future__ import annotations

import polars as pl

from dashboards import frames

PRUNED_SCHEMA = {
    "trial": pl.Int64, "label": pl.String, "pruned_at": pl.Int64, "samples": pl.Int64,
    "accuracy": pl.Float64, "highest": pl.Float64, "others": pl.Float64,
    "compared": pl.Int64, "spared_steps": pl.Int64, "seconds": pl.Float64, "spared_seconds": pl.Float64,
    "stop_reason": pl.String, "pruner_reason": pl.String,
}  # fmt: skip


def run_seconds(trials: pl.DataFrame, evaluations: pl.DataFrame) -> pl.DataFrame:
    """Columns trial, state, run_seconds: what a trial has taken to its newest step, else to its newest evaluation.

    Not from start to end: a study that was resumed the next day did not train all night.
    """
    clock = evaluations.group_by("trial").agg(pl.col("seconds").max().alias("clock"))
    known = pl.coalesce("used_seconds", "clock", "seconds").fill_null(0.0).alias("run_seconds")
    return trials.join(clock, on="trial", how="left").select("trial", "state", known)


def pace(evaluations: pl.DataFrame) -> pl.DataFrame:
    """Columns trial and pace: seconds per training step between a trial's first and newest evaluation."""
    step, seconds = pl.col("step"), pl.col("seconds")
    rate = (seconds.max() - seconds.min()) / (step.max() - step.min())
    return evaluations.group_by("trial").agg(pl.when(step.max() > step.min()).then(rate).alias("pace"))


def pruned(trials: pl.DataFrame, evaluations: pl.DataFrame, *, set_name: str, steps: int) -> pl.DataFrame:
    """The pruned trials in `PRUNED_SCHEMA`: the evidence each was stopped on, and what its other steps would have cost.

    Columns:
        samples, accuracy: its own on `set_name` at the step of its pruning.
        highest: its best until then, which Optuna's median and percentile pruners go by.
        others: the median at that very step of the `compared` trials that had been completed by then, of whole
            evaluations (see `frames.FEW`).
        seconds, spared_seconds: what it took, and what it would have taken more, at its own pace, or at that of all
            where it was pruned before its first step.
        spared_steps, spared_seconds: null of what the pruner did not stop, see `study.costs.spared_by_pruning`.
    """
    stopped = trials.filter((pl.col("state") == "PRUNED") & pl.col("pruned_at").is_not_null())
    scores = evaluations.filter(pl.col("set") == set_name).select("trial", "step", "samples", "accuracy")
    own = scores.with_columns(pl.col("accuracy").cum_max().over("trial", order_by="step").alias("highest"))
    table = stopped.join(own.rename({"step": "pruned_at"}), on=["trial", "pruned_at"], how="left")
    whole = evaluations.filter(pl.col("set") == set_name, ~frames.FEW)
    table = table.join(_peers(stopped, trials, whole), on="trial", how="left")
    paces = pace(evaluations)
    table = table.join(paces, on="trial", how="left")
    spared = pl.when(pl.col("stop_reason").is_null()).then(steps - pl.col("pruned_at"))
    taken = pl.coalesce("used_seconds", "seconds")
    to_its_end = pl.when(pl.col("pruned_at") > 0).then(taken / pl.col("pruned_at"))
    rate = pl.coalesce("pace", to_its_end, pl.lit(paces["pace"].mean(), dtype=pl.Float64))
    table = table.with_columns(
        spared.alias("spared_steps"),
        (spared * rate).alias("spared_seconds"),
        taken.alias("seconds"),
        pl.col("compared").fill_null(0),
    )
    return table.select(*PRUNED_SCHEMA).cast(PRUNED_SCHEMA).sort("trial")


def _peers(stopped: pl.DataFrame, trials: pl.DataFrame, whole: pl.DataFrame) -> pl.DataFrame:
    """Columns trial, others and compared of `pruned`."""
    ended = pl.col("started") + pl.duration(microseconds=pl.col("seconds") * 1e6)
    complete = trials.filter(pl.col("state") == "COMPLETE", frames.SEARCH).select("trial", ended.alias("completed"))
    complete = complete.join(whole, on="trial").select("completed", "step", pl.col("accuracy").alias("theirs"))
    pairs = stopped.select("trial", "pruned_at", ended.alias("ended")).join(
        complete, left_on="pruned_at", right_on="step"
    )
    pairs = pairs.filter((pl.col("completed") <= pl.col("ended")).fill_null(True))
    return pairs.group_by("trial").agg(
        pl.col("theirs").median().alias("others"), pl.len().cast(pl.Int64).alias("compared")
    )
