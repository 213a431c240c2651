"""How trials stand at one training step, where a pruned one is compared with others of its age. Pure functions."""

from __future__ import annotations

import polars as pl

from dashboards import frames

MEASURES = {"avg@k": "accuracy", "cons@k": "cons", "pass@k": "pass_at_k"}
"""Column of `frames.EVALUATION_SCHEMA` for what a study can maximize."""


def steps(evaluations: pl.DataFrame, set_name: str) -> dict[int, int]:
    """How many trials were evaluated on `set_name` at each training step after the base model's, ascending."""
    own = evaluations.filter((pl.col("set") == set_name) & (pl.col("step") > 0))
    return dict(own.group_by("step").agg(pl.col("trial").n_unique()).sort("step").iter_rows())


def usual_step(counts: dict[int, int], *, enough: int) -> int:
    """The last step with `enough` trials, else the last with two, else the last of all; 0 without any."""
    for least in (enough, 2, 1):
        there = [step for step, trials in counts.items() if trials >= least]
        if there:
            return max(there)
    return 0


def at_step(
    trials: pl.DataFrame, evaluations: pl.DataFrame, *, set_name: str, step: int, metric: str = "avg@k"
) -> pl.DataFrame:
    """The trials that were evaluated at `step`, the best first: columns of `trials`, samples, problems, score, error.

    Args:
        metric: a key of `MEASURES`. `error` is its sampling error, which is known of avg@k only. The others mean
            another thing for another k, so trials whose evaluation ended after fewer samples are left out of them.
    """
    own = evaluations.filter((pl.col("set") == set_name) & (pl.col("step") == step))
    error = pl.col("sampling_error") if metric == "avg@k" else pl.lit(None, dtype=pl.Float64)
    known = own.select("trial", "samples", "problems", pl.col(MEASURES[metric]).alias("score"), error.alias("error"))
    known = known.filter(pl.col("score").is_finite())
    if metric != "avg@k":
        known = known.filter(pl.col("samples") == pl.col("samples").max())
    own_columns = ("trial", *(name for name in frames.TRIAL_SCHEMA if name != "trial"), *parameters(trials))
    return trials.select(own_columns).join(known, on="trial").sort("score", "trial", descending=[True, False])


def by_configuration(scores: pl.DataFrame) -> pl.DataFrame:
    """`at_step` with one row for each configuration: a confirmed one by the mean of its fresh seeds, the best first.

    As in the study's own ranking, its first trial was chosen for being high, so it lends its row but not its score.
    """
    own = scores.with_columns(pl.coalesce("confirms", "trial").alias("configuration"))
    fresh = own.drop_nulls("confirms").group_by("configuration").agg(
        pl.col("score").mean(),
        pl.when(pl.col("error").null_count() == 0).then((pl.col("error") ** 2).sum().sqrt() / pl.len()).alias("error"),
    )  # fmt: skip
    firsts = scores.filter(frames.CONFIGURATION)
    found = firsts.join(fresh, left_on="trial", right_on="configuration", how="left", suffix="_fresh")
    fresh_known = pl.col("score_fresh").is_not_null()
    means = [pl.when(fresh_known).then(f"{each}_fresh").otherwise(each).alias(each) for each in ("score", "error")]
    return found.with_columns(means).select(scores.columns).sort("score", "trial", descending=[True, False])


def parameters(trials: pl.DataFrame) -> list[str]:
    """All dotted keys of `frames.trials`, varying or not."""
    return [name for name in trials.columns if name not in frames.TRIAL_SCHEMA]
