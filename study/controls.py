"""Controls: the trials that all others are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from study import attributes
from study.space import Value
from study.spec import StudySpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def is_control(spec: StudySpec, trial: FrozenTrial) -> bool:
    """Whether others are compared with `trial`: one of the study file's `enqueue`, or a DAPO that was enqueued later,
    unless all trials of the study are."""
    if attributes.LABEL not in trial.user_attrs:
        return False
    if trial.number < len(spec.enqueue):  # they enter the queue first
        return True
    return not is_dapo(spec, {}) and is_dapo(spec, given(trial) | trial.user_attrs.get(attributes.BESIDE, {}))


def given(trial: FrozenTrial) -> dict[str, Any]:
    """Its values by key of the space; of one that still waits those that it was enqueued with."""
    return dict(trial.params) or dict(trial.system_attrs.get("fixed_params", {}))


def is_dapo(spec: StudySpec, values: Mapping[str, Value]) -> bool:
    """Whether every influence weight is 1 in a trial with these `values`, whatever the sampler gives beside them."""
    return set(weight_bounds(spec, values).values()) == {0}


def weight_bounds(spec: StudySpec, values: Mapping[str, Value]) -> dict[str, Any]:
    """The bounds of the influence weights in a trial with these `values`, by key; None where the sampler gives one."""
    fipo = spec.trainer_values(values).get("fipo", {})
    return {f"fipo.{name}": fipo.get(name) for name in ("epsilon_f_low", "epsilon_f_high")}
