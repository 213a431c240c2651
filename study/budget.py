"""What a study has spent, and whether that is enough."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study import attributes
from study.metric import completed_value
from study.spec import Budget, Resources
from trainer.digits import decimal
from trainer.records import newest_metrics, run_seconds

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Usage:
    """What one trial has taken so far."""

    seconds: float = 0.0
    gpu_hours: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class Devices:
    """What one trial occupies while it runs."""

    count: float
    name: str
    """GPU or core."""

    def hours(self, seconds: float) -> float:
        """Device-hours of so many seconds of a trial."""
        return seconds / 3600 * self.count


def devices(resources: Resources) -> Devices:
    """The GPUs of a trial, its CPU cores where it has none."""
    if resources.gpus_per_worker:
        return Devices(resources.workers * resources.gpus_per_worker, "GPU")
    return Devices(resources.workers * resources.cpus_per_worker, "core")


NOTHING = Usage()
"""Before the first evaluation."""


def usage(resources: Resources, *, seconds: float, tokens: int) -> Usage:
    """The usage of a trial that has trained for `seconds` on `resources` and sampled `tokens`."""
    return Usage(seconds, seconds / 3600 * resources.workers * resources.gpus_per_worker, tokens)


def usage_so_far(resources: Resources, directory: Path) -> Usage:
    """The usage of the trial in `directory` at its newest step."""
    return usage(resources, seconds=run_seconds(directory), tokens=int(newest_metrics(directory).get("tokens", 0)))


def usage_of(trial: FrozenTrial) -> Usage:
    """What a trial took, as its driver recorded it at its end; nothing before."""
    return Usage(**trial.user_attrs.get(attributes.USAGE, {}))


class Account:
    """Adds up usages against a budget. The clock starts when it is made."""

    def __init__(self, budget: Budget, resources: Resources, ended: Iterable[FrozenTrial]) -> None:
        self.budget = budget
        self._gpus = resources.workers * resources.gpus_per_worker
        self._started = time.monotonic()
        self._usages: dict[int, Usage] = {}
        self._since: dict[int, float] = {}
        self.best = float("-inf")
        """The highest metric of a completed trial; -inf before the first."""
        for trial in ended:
            self._usages[trial.number] = usage_of(trial)
            if trial.state.name == "COMPLETE":
                self.completed(completed_value(trial))

    def used(self, number: int, usage: Usage) -> None:
        """Trial `number` has taken this much so far. What it tells again after a death takes nothing back."""
        self._usages[number] = max(self.usage(number), usage, key=lambda each: each.seconds)

    def trains(self, number: int) -> None:
        """Trial `number` is known to train on its GPUs from now on, beyond what it has taken so far."""
        self._since[number] = time.monotonic()

    def rests(self, number: int) -> None:
        """Trial `number` trains no more: it has ended, or lost a process and waits for another place."""
        self._since.pop(number, None)

    def usage(self, number: int) -> Usage:
        """What trial `number` has taken so far."""
        return self._usages.get(number, NOTHING)

    def completed(self, value: float) -> None:
        """A trial has completed with this metric."""
        self.best = max(self.best, value)

    @property
    def gpu_hours(self) -> float:
        """Of all trials; of those that train, what they told last and the time since."""
        now = time.monotonic()
        since = sum(now - each for each in self._since.values())
        return sum(each.gpu_hours for each in self._usages.values()) + since / 3600 * self._gpus

    def spent(self) -> str | None:
        """Why the study is to stop now, in words; None while it may go on."""
        budget, gpu_hours = self.budget, self.gpu_hours
        if budget.gpu_hours is not None and gpu_hours >= budget.gpu_hours:
            return (
                f"budget.gpu_hours = {budget.gpu_hours:g} is spent ({gpu_hours:.3g} GPU-hours with what runs);"
                " raise it, or set it to null, before a resume"
            )
        if budget.hours is not None and time.monotonic() - self._started >= 3600 * budget.hours:
            return f"budget.hours = {budget.hours:g} is over; a resume has as many again"
        if budget.accuracy is not None and self.best >= budget.accuracy:
            return (
                f"budget.accuracy = {budget.accuracy:g} is reached ({decimal(self.best)}); raise it, or set it to null,"
                " before a resume"
            )
        return None
