"""A study's results as polars frames: one row per trial, one row per evaluation. Pure functions, no Streamlit.

Accuracies are fractions 0..1, lengths are response tokens, steps are training steps, times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from study.results import StudyResults, TrialResult
    from study.space import Value

LENGTHS = {
    "mean": "mean_length",
    "median": "length_median",
    "lower quartile": "length_q25",
    "upper quartile": "length_q75",
}
ERRORS = {"sampling": "sampling_error", "across problems": "problem_error"}

TRIAL_SCHEMA: dict[str, Any] = {
    "trial": pl.Int64,
    "label": pl.String,
    "state": pl.String,
    "control": pl.String,
    "of_control": pl.Int64,
    "enqueued": pl.String,
    "value": pl.Float64,
    "steps_done": pl.Int64,
    "pruned_at": pl.Int64,
    "fail_reason": pl.String,
    "stop_reason": pl.String,
    "pruner_reason": pl.String,
    "confirms": pl.Int64,
    "repeats": pl.Int64,
    "started": pl.Datetime("us"),
    "seconds": pl.Float64,
    "used_seconds": pl.Float64,
}
EVALUATION_SCHEMA: dict[str, Any] = {
    "trial": pl.Int64,
    "set": pl.String,
    "step": pl.Int64,
    "samples": pl.Int64,
    "planned": pl.Int64,
    "problems": pl.Int64,
    "accuracy": pl.Float64,
    "sampling_error": pl.Float64,
    "problem_error": pl.Float64,
    "cons": pl.Float64,
    "pass_at_k": pl.Float64,
    "mean_length": pl.Float64,
    "length_min": pl.Float64,
    "length_q25": pl.Float64,
    "length_median": pl.Float64,
    "length_q75": pl.Float64,
    "length_max": pl.Float64,
    "truncated": pl.Float64,
    "seconds": pl.Float64,
    "tokens": pl.Int64,
}

LONGEST_HALF_LIFE = 1e6
"""Tokens, beyond every response: a longer half-life discounts nothing. A sampler may propose gamma = 1 - 1e-16."""

FEW = (pl.col("samples") < pl.col("planned")).fill_null(value=False)
"""Whether an evaluation ended before it had the set's `samples`. The few are the first of the same draws in every
trial, so what makes them lucky is shared: they do not stand beside whole evaluations without a mark."""


SEARCH = pl.col("confirms").is_null()
"""Whether a trial is none that confirms another: what a pruner compares with, see `study.peers`."""
CONFIGURATION = SEARCH & pl.col("repeats").is_null()
"""Whether it is a configuration of its own: neither another's with a fresh seed, nor the very same run again."""


def trials(results: StudyResults) -> pl.DataFrame:
    """One row per trial in `TRIAL_SCHEMA`, then one column per sampled parameter, named by its dotted key.

    A trial that would run but has no driver is STOPPED; it goes on when the study is resumed. `control` is the label of
    a control, `of_control` the number of the one that a trial is or confirms, `enqueued` the label of a trial whose
    values someone gave later (`fipo enqueue`). `seconds` are from start to end, `used_seconds` those of training up
    to the newest step.

    gamma and half-life are one quantity (gamma = 2^(-1/tau), paper eq. 7): whichever was sampled, both are columns.
    Null is the half-life of a gamma that has none: 0, 1, or so near 1 that it is beyond `LONGEST_HALF_LIFE`.
    """
    rows, controls = [], {trial.number for trial in results.trials if trial.control is not None}
    for trial in results.trials:
        confirms = results.confirmed_by(trial)
        whose = trial.number if confirms is None else confirms
        rows.append(
            {
                "trial": trial.number,
                "label": label(trial),
                "state": results.state(trial),
                "control": trial.control,
                "of_control": whose if whose in controls else None,
                "enqueued": trial.enqueued,
                "value": _finite(trial.value),
                "steps_done": trial.steps_done,
                "pruned_at": trial.pruned_at,
                "fail_reason": trial.fail_reason,
                "stop_reason": trial.stop_reason,
                "pruner_reason": trial.pruner_reason,
                "confirms": confirms,
                "repeats": results.repeats.get(trial.number),
                "started": trial.started,
                "seconds": (trial.ended - trial.started).total_seconds() if trial.started and trial.ended else None,
                "used_seconds": trial.usage.seconds or None,
            }
        )
    frame = pl.DataFrame(rows, schema=TRIAL_SCHEMA)
    keys = sorted({key for trial in results.trials for key in trial.params})
    frame = frame.with_columns(_parameter(key, results.trials) for key in keys)
    numbers = [key for key in keys if frame[key].dtype.is_numeric()]  # null can be swept beside them
    if "fipo.half_life" in numbers and "fipo.gamma" not in keys:
        frame = frame.with_columns((2.0 ** (-1.0 / pl.col("fipo.half_life"))).alias("fipo.gamma"))
    elif "fipo.gamma" in numbers and "fipo.half_life" not in keys:
        gamma = pl.col("fipo.gamma")
        tau = pl.when((gamma > 0) & (gamma < 1)).then(-math.log(2.0) / gamma.log())
        frame = frame.with_columns(pl.when(tau <= LONGEST_HALF_LIFE).then(tau).alias("fipo.half_life"))
    return frame


def label(trial: TrialResult) -> str:
    """What a trial is called: its number, with the name under which it was enqueued or what it confirms."""
    if trial.confirms is not None:
        return f"#{trial.number} confirms #{trial.confirms}"
    name = trial.control or trial.enqueued
    return f"{name} (#{trial.number})" if name else f"#{trial.number}"


def parameters(trials: pl.DataFrame) -> list[str]:
    """The dotted keys that vary between the sampled trials, the discount and the influence bounds first.

    No half-life where a trial has a gamma without one: a chart of half-lives would lack that trial.
    """
    first = ["fipo.half_life", "fipo.gamma", "fipo.epsilon_f_low", "fipo.epsilon_f_high"]
    keys = [name for name in trials.columns if name not in TRIAL_SCHEMA]
    keys.sort(key=lambda key: (first.index(key) if key in first else len(first), key))
    both = {"fipo.half_life", "fipo.gamma"} <= {*keys}
    if both and trials.drop_nulls("fipo.gamma")["fipo.half_life"].has_nulls():
        keys.remove("fipo.half_life")
    return [key for key in keys if trials[key].drop_nulls().n_unique() > 1]


def evaluations(results: StudyResults) -> pl.DataFrame:
    """One row per trial, evaluation and set in `EVALUATION_SCHEMA`, steps ascending within a trial.

    `planned` is the k of a whole evaluation of the set, `samples` that of this one.
    """
    planned = {each.name: each.samples for each in results.spec.evaluation_config().sets}
    rows = [
        (
            trial.number,
            score.name,
            evaluation.step,
            score.samples,
            planned.get(score.name),
            len(score.solved),
            score.accuracy,
            score.sampling_error,
            score.problem_error,
            score.cons,
            score.pass_at_k,
            score.mean_length,
            *score.length_quantiles,
            score.truncated,
            evaluation.seconds,
            evaluation.tokens,
        )
        for trial in results.trials
        for evaluation in trial.evaluations
        for score in evaluation.scores
    ]
    frame = pl.DataFrame(rows, schema=EVALUATION_SCHEMA, orient="row")
    return frame.sort("trial", "step", maintain_order=True)


def sets(evaluations: pl.DataFrame) -> list[str]:
    """Names of the evaluation sets, the one that selects first (the order of the first evaluation)."""
    return evaluations["set"].unique(maintain_order=True).to_list()


def curves(
    trials: pl.DataFrame,
    evaluations: pl.DataFrame,
    *,
    set_name: str,
    length: str = "mean",
    error: str | None = "sampling",
    colour: str | None = None,
    only: Sequence[int] | None = None,
    steps: tuple[int, int] | None = None,
) -> pl.DataFrame:
    """The points of the length-accuracy chart, in step order within each trial.

    Args:
        length: a key of `LENGTHS`; which length of the evaluation's responses is the abscissa.
        error: a key of `ERRORS`, or None for no error bars.
        colour: dotted key of the parameter whose value goes into the column `colour` (null: not sampled).
        only: trial numbers to keep; None keeps all.
        steps: first and last training step to keep; None keeps all.

    Returns:
        Columns trial, label, state, control, of_control, value, step, samples, planned, problems, length, accuracy,
        error, colour, last (whether it is the trial's newest point). Points without a finite length and accuracy are
        left out.
    """
    chosen = trials if only is None else trials.filter(pl.col("trial").is_in(list(only)))
    own = _of_set(evaluations, set_name)
    if steps is not None:
        own = own.filter(pl.col("step").is_between(*steps))
    colours = pl.col(colour) if colour in chosen.columns else pl.lit(None, dtype=pl.Float64)
    errors = pl.col(ERRORS[error]) if error else pl.lit(None, dtype=pl.Float64)
    points = own.join(
        chosen.select("trial", "label", "state", "control", "of_control", "value", colours.alias("colour")), on="trial"
    )
    return (
        points.with_columns(pl.col(LENGTHS[length]).alias("length"), errors.alias("error"))
        .filter(pl.col("length").is_finite() & pl.col("accuracy").is_finite())
        .sort("trial", "step")
        .with_columns((pl.col("step") == pl.col("step").max().over("trial")).alias("last"))
        .select("trial", "label", "state", "control", "of_control", "value", "step", "samples", "planned", "problems",
                "length", "accuracy", "error", "colour", "last")
    )  # fmt: skip


def k_in_words(points: pl.DataFrame) -> str:
    """How many responses the `FEW` among the points had: k = 2 of 8, k = 2 to 4 of 8; empty where all are whole."""
    few = points.filter(FEW)
    if few.is_empty():
        return ""
    low, high = few["samples"].min(), few["samples"].max()
    return f"k = {low}{f' to {high}' if high != low else ''} of {few['planned'].max()}"


def _of_set(evaluations: pl.DataFrame, set_name: str) -> pl.DataFrame:
    """Evaluations of `set_name`. What is only reported is evaluated at the end: of a trial that trains or was pruned
    there is the base model's alone, which is none of its results and is left out."""
    own, trained = evaluations.filter(pl.col("set") == set_name), pl.col("step") > 0
    since, known = (frame.filter(trained)["trial"].unique().implode() for frame in (evaluations, own))
    return own.filter(pl.col("trial").is_in(known) | ~pl.col("trial").is_in(since))


def newest(evaluations: pl.DataFrame, set_name: str) -> pl.DataFrame:
    """The last evaluation of `set_name` of each trial, with `growth`: its mean length over that of the base model."""
    of_set = _of_set(evaluations, set_name).sort("trial", "step")
    base = of_set.filter(pl.col("step") == 0).select("trial", pl.col("mean_length").alias("base_length"))
    last = of_set.group_by("trial", maintain_order=True).last().join(base, on="trial", how="left")
    return last.with_columns((pl.col("mean_length") / pl.col("base_length")).alias("growth"))


def summary(trials: pl.DataFrame, evaluations: pl.DataFrame, *, set_name: str) -> pl.DataFrame:
    """`trials` joined with each one's newest evaluation; on the set that the study maximizes finished trials by value
    first, then and on others by accuracy."""
    scores = newest(evaluations, set_name).drop("set", "seconds")
    order = [*(["value"] if [set_name] == sets(evaluations)[:1] else []), "accuracy"]
    return trials.join(scores, on="trial", how="left").sort(order, descending=True, nulls_last=True)


def _parameter(key: str, trials: Sequence[TrialResult]) -> pl.Series:
    """Its values as numbers, or, where one is none, as text. Null is a trial that has no value yet."""
    known = [trial.params[key] for trial in trials if key in trial.params]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return pl.Series(key, [trial.params.get(key) for trial in trials], dtype=pl.Float64)
    return pl.Series(
        key, [_text(trial.params[key]) if key in trial.params else None for trial in trials], dtype=pl.String
    )


def _text(value: Value) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
