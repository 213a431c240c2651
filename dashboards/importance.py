"""How much each parameter explains of the score at one training step, by Optuna's evaluators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import optuna

    from study.results import StudyResults

FEWEST, MOST = 8, 100
"""Trials that it needs, and those it takes: fANOVA's time grows faster than their number (optuna issue 3962)."""
TRUSTED = 16
"""Below this many configurations a single trial can make the ranking: shown as a hint, nothing is laid out by it."""
CHANCE = "shuffled scores (chance)"
"""The most that any parameter explained of scores dealt out anew: a parameter without effect explains more once in
`SHUFFLES` + 1 studies, however many there are."""
SHUFFLES = 19
TREES = 16
"""Of each forest. With Optuna's 64 a share is another by 0.03 on average, and all takes four times as long."""
TWINS = ("fipo.half_life", "fipo.gamma")
SCHEMA = {"parameter": pl.String, "method": pl.String, "importance": pl.Float64}


def importance(results: StudyResults, scores: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Columns parameter (with `CHANCE`), method (fANOVA, PED-ANOVA) and importance (sums to 1 without `CHANCE`).

    Nothing with too few trials, equal scores, or one parameter, which explains all there is.

    Args:
        scores: of `scores.by_configuration`; those of `usable` count, of more than `MOST` a random part.
    """
    known, distributions = usable(results, scores), _distributions(results)
    if known.height < FEWEST or known["score"].n_unique() < 2 or len(distributions) < 2:
        return pl.DataFrame(schema=SCHEMA)
    known, draw = known.sample(min(MOST, known.height), seed=seed), np.random.default_rng(seed)
    by_number = {trial.number: trial for trial in results.trials}
    points = [{key: by_number[number].params[key] for key in distributions} for number in known["trial"]]
    found = _shares(points, distributions, known["score"].to_list(), seed)
    shuffled = (
        share
        for _ in range(SHUFFLES)
        for share in _shares(points, distributions, draw.permutation(known["score"]).tolist(), seed).values()
    )
    found[CHANCE] = max(shuffled, key=lambda share: sum(share.values()))
    rows = [(key, method, share) for key, shares in found.items() for method, share in shares.items()]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _shares(
    points: Sequence[dict[str, Any]],
    distributions: dict[str, optuna.distributions.BaseDistribution],
    scores: Sequence[float],
    seed: int,
) -> dict[str, dict[str, float]]:
    """What each parameter explains by each method."""
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    for point, score in zip(points, scores, strict=True):
        study.add_trial(optuna.create_trial(params=point, distributions=distributions, value=score))
    evaluators = {
        "fANOVA": FanovaImportanceEvaluator(n_trees=TREES, seed=seed),
        "PED-ANOVA": PedAnovaImportanceEvaluator(),
    }
    found: dict[str, dict[str, float]] = {key: {} for key in distributions}
    for name, evaluator in evaluators.items():
        for key, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items():
            found[key][name] = float(share)
    return found


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
    """Whether any parameter explains more than `CHANCE`, by the mean of the methods."""
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
