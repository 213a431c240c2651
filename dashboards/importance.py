"""How much each parameter explains of the score at one training step, by Optuna's evaluators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import optuna

    from study.results import StudyResults

FEWEST, MOST = 8, 100
"""Trials that it needs, and those it takes: fANOVA's time grows faster than their number (optuna issue 3962)."""
TRUSTED = 16
"""Below this many configurations a single trial can make the ranking: shown as a hint, nothing is laid out by it."""
CHANCE = "random numbers (chance)"
"""A parameter made up beside the real ones: what chance alone explains with so few trials."""
TWINS = ("fipo.half_life", "fipo.gamma")
SCHEMA = {"parameter": pl.String, "method": pl.String, "importance": pl.Float64}


def importance(results: StudyResults, scores: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Columns parameter (with `CHANCE`), method (fANOVA, PED-ANOVA) and importance (per method they sum to 1).

    Args:
        scores: of `scores.by_configuration`; those of `usable` count, of more than `MOST` a random part.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    known = usable(results, scores)
    if known.height < FEWEST or known["score"].n_unique() < 2:
        return pl.DataFrame(schema=SCHEMA)
    known = known.sample(min(MOST, known.height), seed=seed)
    distributions = _distributions(results) | {CHANCE: optuna.distributions.FloatDistribution(0, 1)}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    draw = np.random.default_rng(seed)
    by_number = {trial.number: trial for trial in results.trials}
    for number, score in known.select("trial", "score").iter_rows():
        params = {**by_number[number].params, CHANCE: float(draw.random())}
        params = {key: params[key] for key in distributions}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=score))
    evaluators = {"fANOVA": FanovaImportanceEvaluator(seed=seed), "PED-ANOVA": PedAnovaImportanceEvaluator()}
    rows = [
        {"parameter": key, "method": name, "importance": float(share)}
        for name, evaluator in evaluators.items()
        for key, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def ranked(keys: Sequence[str], importance: pl.DataFrame) -> list[str]:
    """`keys` with those that explain more than chance first, the most important in front; the others keep their order.

    Args:
        importance: of `importance`, whose methods count alike. gamma and half-life are one quantity.
    """
    mean = _means(importance)
    for one, other in (TWINS, TWINS[::-1]):
        if one in mean:
            mean.setdefault(other, mean[one])
    chance = mean.get(CHANCE, 0.0)
    return sorted(keys, key=lambda key: -mean.get(key, 0.0) if mean.get(key, 0.0) > chance else 0.0)


def beyond_chance(importance: pl.DataFrame) -> bool:
    """Whether any parameter explains more than random numbers do, by the mean of the methods."""
    mean = _means(importance)
    chance = mean.pop(CHANCE, 0.0)
    return any(share > chance for share in mean.values())


def _means(importance: pl.DataFrame) -> dict[str, float]:
    """What each parameter, and chance, explains by the mean of the methods."""
    return dict(importance.group_by("parameter").agg(pl.col("importance").mean()).iter_rows())


def usable(results: StudyResults, scores: pl.DataFrame) -> pl.DataFrame:
    """The trials that have a value within the range of every parameter; a control may lie outside, or lack one."""
    import optuna

    distributions, numbers = _distributions(results), []
    for trial in results.trials:
        try:
            optuna.create_trial(
                params={key: trial.params[key] for key in distributions}, distributions=distributions, value=0.0
            )
        except (KeyError, ValueError):
            continue
        numbers.append(trial.number)
    return scores.filter(pl.col("trial").is_in(numbers))


def _distributions(results: StudyResults) -> dict[str, optuna.distributions.BaseDistribution]:
    return {key: space.optuna() for key, space in results.spec.space.items()}
