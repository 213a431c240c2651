"""The trials that a pruner compares one with: those of the search."""

from __future__ import annotations

import copy
from collections.abc import Container

import optuna
from optuna.trial import FrozenTrial, TrialState

from study import attributes
from study.metric import completed_value


class Peers(optuna.Study):
    """`study` as its pruner sees it, without the confirmations: they are runs of other seeds, several of one
    configuration, and would tell a trial of the search that it is worse where another seed is easier."""

    def __init__(self, study: optuna.Study) -> None:
        super().__init__(study.study_name, study._storage, pruner=study.pruner)

    def prunes(self, trial: optuna.Trial) -> bool:
        """Whether to stop `trial` after its last report."""
        own = copy.copy(trial)
        own.study = self
        return own.should_prune()

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """As in Optuna; Hyperband alone reads around it, and compares by what it noted of trials that it judged."""
        return [each for each in super().get_trials(deepcopy, states) if attributes.CONFIRMS not in each.user_attrs]

    @property
    def best_trial(self) -> FrozenTrial:
        """As in Optuna; raises ValueError where none has completed. WilcoxonPruner asks for it."""
        return max(self.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=completed_value)
