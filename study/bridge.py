"""The bridge between a study's trials and ONE `optuna.Study`: it asks, reports, decides and tells. Knows no Ray.

Every trial ends in exactly one of COMPLETE (value: the metric of the last step), PRUNED (`pruned_at`) or FAIL
(`fail_reason`). Intermediate values are keyed by the training step, so that trials are compared at equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from study import pruners
from study.spec import StudySpec
from study.storage import trial_directory, write_atomically
from trainer.config import TrainerConfig
from trainer.errors import UserError

if TYPE_CHECKING:
    import optuna


def solved_key(step: int) -> str:
    """Trial user attribute with the per-problem results at `step`: ``{"samples": k, "solved": [0..k per problem]}``."""
    return f"solved/{step}"


@dataclass(frozen=True)
class Assignment:
    """What a trial is to run: its number, its config and the directory it writes to."""

    number: int
    config: TrainerConfig
    directory: Path


@dataclass
class _Running:
    trial: optuna.Trial
    steps: int
    last_step: int = -1
    value: float = math.nan
    pruned_at: int | None = None
    fail_reason: str | None = None


class Bridge:
    """Serves the trials of `spec` from `study`; each writes to its own folder under `directory`."""

    def __init__(self, study: optuna.Study, spec: StudySpec, directory: Path) -> None:
        self.study, self.spec, self.directory = study, spec, directory
        self._running: dict[int, _Running] = {}
        self._asked = 0
        self._sees_problems = pruners.sees_problems(spec.pruner.name, spec.pruner.options)

    def ask(self) -> Assignment | None:
        """The next trial, its config already written, or None once `spec.trials` have been given out.

        A sampled point that is not a valid config is told as FAIL, counts as a trial, and the next is asked for.
        """
        while self._asked < self.spec.trials:
            self._asked += 1
            trial = self.study.ask({key: each.optuna() for key, each in self.spec.space.items()})
            running = self._running[trial.number] = _Running(trial, steps=0)
            relative = trial_directory(trial.number)
            trial.set_user_attr("directory", relative.as_posix())
            try:
                config = self.spec.config({**trial.params, **trial.user_attrs.get("fixed", {})})
            except UserError as error:
                self.fail(trial.number, str(error))
                self.finish(trial.number)
                continue
            running.steps = config.steps
            directory = self.directory / relative
            directory.mkdir()
            write_atomically(directory / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
            return Assignment(trial.number, config, directory)
        return None

    def report(self, number: int, step: int, value: float, *, samples: int = 0, solved: Sequence[int] = ()) -> bool:
        """Record `value` at training `step`. True when the trial should stop now: pruned, or failed by a value that is
        not finite. A step that was reported before is ignored.

        Args:
            samples: k, responses per problem; it and `solved` are stored where the pruner looks at them.
            solved: correct responses of each problem, each 0..k.
        """
        running = self._running[number]
        if step <= running.last_step:
            return False
        running.last_step, running.value = step, value
        if not math.isfinite(value):
            self.fail(number, f"{self.spec.metric} is {value} at step {step}")
            return True
        if self._sees_problems and solved:
            running.trial.set_user_attr(solved_key(step), {"samples": samples, "solved": list(solved)})
        running.trial.report(value, step)
        # At its last step a trial has cost all it can: there is nothing left to save.
        if step < running.steps and running.trial.should_prune():
            running.pruned_at = step
            running.trial.set_user_attr("pruned_at", step)
            return True
        return False

    def fail(self, number: int, reason: str) -> None:
        """Have the trial end as FAIL for `reason` (one line). The first reason stays."""
        running = self._running[number]
        if running.fail_reason is None:
            running.fail_reason = " ".join(reason.split())

    def finish(self, number: int) -> None:
        """Tell Optuna how trial `number` ended. A trial that stopped short of its last step without a reason failed."""
        from optuna.trial import TrialState

        running = self._running.pop(number, None)
        if running is None:
            return
        if running.fail_reason is None and running.pruned_at is None and running.last_step < running.steps:
            running.fail_reason = f"ended after step {max(running.last_step, 0)} of {running.steps}"
        if running.fail_reason is not None:
            running.trial.set_user_attr("fail_reason", running.fail_reason)
            self.study.tell(running.trial, state=TrialState.FAIL)
        elif running.pruned_at is not None:
            self.study.tell(running.trial, state=TrialState.PRUNED)
        else:
            self.study.tell(running.trial, running.value)

    def settle(self, reason: str) -> None:
        """End every trial that is still running as FAIL for `reason`, so that none stays RUNNING."""
        for number in list(self._running):
            self.fail(number, reason)
            self.finish(number)
