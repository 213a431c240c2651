"""How much each parameter explains of the final metric, by Optuna's evaluators over the complete trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from study.results import StudyResults

FEWEST = 8
SCHEMA = {"parameter": pl.String, "method": pl.String, "importance": pl.Float64}


def importance(results: StudyResults, *, seed: int = 0) -> pl.DataFrame:
    """Columns parameter, method (fANOVA, PED-ANOVA) and importance (per method they sum to 1).

    Only complete trials that sampled every parameter of the space count; empty with fewer than `FEWEST` of them.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    complete = usable(results)
    if len(complete) < FEWEST:
        return pl.DataFrame(schema=SCHEMA)
    distributions = {key: space.optuna() for key, space in results.spec.space.items()}
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    for trial in complete:
        params = {key: trial.params[key] for key in distributions}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=trial.value))
    evaluators = {"fANOVA": FanovaImportanceEvaluator(seed=seed), "PED-ANOVA": PedAnovaImportanceEvaluator()}
    rows = [
        {"parameter": key, "method": name, "importance": float(share)}
        for name, evaluator in evaluators.items()
        for key, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def usable(results: StudyResults) -> list:
    """The complete trials with a value for every parameter of the space."""
    keys = set(results.spec.space)
    return [each for each in results.trials if each.value is not None and keys <= set(each.params)]
