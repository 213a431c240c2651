"""The number that a study maximizes, taken from a trial's evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from trainer.records import SetScore


def metric_value(score: SetScore, metric: str) -> float:
    """`metric` (avg@k, cons@k or pass@k) of a score, a fraction 0..1."""
    return {"avg@k": score.accuracy, "cons@k": score.cons, "pass@k": score.pass_at_k}[metric]


def completed_value(trial: FrozenTrial) -> float:
    """The metric of a completed trial, its first objective where there are two."""
    assert trial.values is not None, f"trial {trial.number} is {trial.state.name}"
    return trial.values[0]
