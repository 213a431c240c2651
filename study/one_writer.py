"""Optuna's database storage for a study's one driver: what it has read or written, it does not read again.

Optuna reads every unfinished trial anew whenever a pruner or sampler looks at the study, since other processes may have
written meanwhile. Here none does (`study.lock`), and with many trials running that reading is nearly all the work.
Every write goes to the database first and is remembered only when that succeeded.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState


class OneWriterStorage(_CachedStorage):
    """The trials of `backend`, which no one else writes while this is used."""

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._read: set[int] = set()

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        self._remember(trial_id, "params", param_name, distribution.to_external_repr(param_value_internal))
        self._remember(trial_id, "distributions", param_name, distribution)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        trial = self._backend.get_trial(trial_id)  # the database has put its time on it
        with self._lock:
            study_id, number = self._trial_id_to_study_id_and_number[trial_id]
            self._studies[study_id].trials[number] = trial
        return changed

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._remember(trial_id, "intermediate_values", step, float(intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)
        self._remember(trial_id, "user_attrs", key, json.loads(json.dumps(value)))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        self._remember(trial_id, "system_attrs", key, json.loads(json.dumps(value)))

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if study_id not in self._read:
            super()._read_trials_from_remote_storage(study_id)
            self._read.add(study_id)

    def _get_cached_trial(self, trial_id: int) -> FrozenTrial | None:
        if trial_id not in self._trial_id_to_study_id_and_number:
            return None
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        return self._studies[study_id].trials[number]

    def _remember(self, trial_id: int, field: str, key: Any, value: Any) -> None:
        """A new trial in place of the old one, which readers on other threads may hold."""
        with self._lock:
            study_id, number = self._trial_id_to_study_id_and_number[trial_id]
            trials = self._studies[study_id].trials
            trials[number] = copy.copy(trials[number])
            setattr(trials[number], field, {**getattr(trials[number], field), key: value})
