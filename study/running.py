"""A trial that runs, as its bridge keeps it from one report to the next."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study import attributes

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

BY_HAND = "stopped by hand"
"""The `stop_reason` of a trial that `fipo stop --trial` ended."""


@dataclass
class Running:
    """How far a trial has come, and how it is to end once that is decided."""

    trial: optuna.Trial
    directory: Path
    last_step: int = -1
    value: float = math.nan
    length: float = 0.0
    pruned_at: int | None = None
    fail_reason: str | None = None
    starting: bool = False

    def mark_starting(self, starting: bool) -> None:
        """Note that it waits for room or its model, or that it has told something since."""
        if starting != self.starting:
            self.starting = starting
            self.trial.set_user_attr(attributes.STARTING, starting)

    def thin(self) -> None:
        """Keep the newest checkpoint alone: at 32B one is 400 GB."""
        for older in sorted((self.directory / "checkpoints").glob("step-*"))[:-1]:
            shutil.rmtree(older, ignore_errors=True)

    def prune(self, reason: str | None) -> None:
        """Have it end as PRUNED where it stands; `reason` is why, when it was not the pruner."""
        self.pruned_at = max(self.last_step, 0)
        if reason is not None:
            self.trial.set_user_attr(attributes.STOP_REASON, reason)
        self.trial.set_user_attr(attributes.PRUNED_AT, self.pruned_at)


def taken_up(trial: optuna.Trial, directory: Path, left: FrozenTrial | None) -> Running:
    """A trial that begins, or goes on where an earlier driver has `left` it."""
    running = Running(trial, directory)
    if left is not None:
        running.pruned_at = left.user_attrs.get(attributes.PRUNED_AT)
        running.fail_reason = left.user_attrs.get(attributes.FAIL_REASON)
        running.length = left.user_attrs.get(attributes.LENGTH, 0.0)
        running.starting = left.user_attrs.get(attributes.STARTING, False)
        running.last_step, running.value = max(left.intermediate_values.items(), default=(-1, math.nan))
    return running
