"""Summaries of the length-accuracy points: regressions by stage of training, and the Pareto front. Pure functions."""

from __future__ import annotations

import polars as pl

FIT_SCHEMA = {
    "stage": pl.Int64,
    "first_step": pl.Int64,
    "last_step": pl.Int64,
    "points": pl.Int64,
    "slope": pl.Float64,
    "slope_error": pl.Float64,
    "intercept": pl.Float64,
    "r2": pl.Float64,
    "shortest": pl.Float64,
    "longest": pl.Float64,
}


def stage_fits(curves: pl.DataFrame, *, stages: int) -> pl.DataFrame:
    """Least squares of accuracy on length in each of `stages` equal parts of training (paper, Figure 3(f)).

    Args:
        curves: of `frames.curves`; all its points are pooled, so trials with many evaluations weigh more. The base
            model's, which trials share, counts once where it is the same.

    Returns:
        `FIT_SCHEMA`: slope and its standard error in accuracy per token, R2, and the span of lengths (tokens). The
        error takes points as independent, which those of one trial are not: it is a lower bound. A stage with fewer
        than three points or a single length has no row.
    """
    from scipy.stats import linregress  # two seconds of import that only this drawing needs

    if curves.is_empty():
        return pl.DataFrame(schema=FIT_SCHEMA)
    base = curves.filter(pl.col("step") == 0).unique(["length", "accuracy"], maintain_order=True)
    curves = pl.concat([base, curves.filter(pl.col("step") > 0)])
    width = (int(curves["step"].max()) + 1) / stages
    rows = []
    for stage in range(1, stages + 1):
        own = curves.filter((pl.col("step") / width).floor() == stage - 1)
        if own.height < 3 or own["length"].n_unique() < 2:
            continue
        line = linregress(own["length"], own["accuracy"])
        steps, lengths = own["step"], own["length"]
        rows.append(
            (stage, steps.min(), steps.max(), own.height, line.slope, line.stderr, line.intercept, line.rvalue**2,
             lengths.min(), lengths.max())
        )  # fmt: skip
    return pl.DataFrame(rows, schema=FIT_SCHEMA, orient="row")


def pareto_front(curves: pl.DataFrame) -> pl.DataFrame:
    """The newest points that no other trial's beats in accuracy at the same length or less, shortest first."""
    newest = curves.filter(pl.col("last")).sort("length", -pl.col("accuracy"))
    best_shorter = pl.col("accuracy").cum_max().shift(1)
    return newest.filter(best_shorter.is_null() | (pl.col("accuracy") > best_shorter))
