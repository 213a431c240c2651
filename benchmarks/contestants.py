"""What can run a simulated study: our bridge with a pruner, and Ray Tune's OptunaSearch with its ASHAScheduler."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from study.assignment import Report
from study.bridge import Bridge
from study.directory import is_enough, trial_directory
from study.pruners import complete, make_pruner
from study.spec import Plugin, StudySpec


@dataclass(frozen=True)
class Asha:
    """Options of Tune's ASHAScheduler; its own are 1 and 4."""

    grace_period: int = 1
    """Training steps before which no trial is stopped."""
    reduction_factor: int = 4
    """At each rung all but one in so many are stopped."""


class Contestant(Protocol):
    """A study as its trials see it, with the calls of `study.bridge.Bridge`."""

    def ask(self) -> tuple[int, Mapping[str, float]] | None:
        """Number and sampled values of the next trial; None when there is none."""

    def report(self, number: int, report: Report) -> bool:
        """True when the trial should stop."""

    def enough(self, number: int, report: Report) -> bool:
        """True when a racing evaluation with these results need draw no more."""

    def finish(self, number: int) -> None:
        """The trial has ended."""


@contextlib.contextmanager
def contestant(
    kind: Plugin | Asha, *, sampler: Plugin, space: dict[str, Any], trials: int, steps: int
) -> Iterator[Contestant]:
    """A study in memory of `trials` trials, each of `steps` training steps.

    Args:
        kind: a pruner of ours, or Tune's ASHA, which comes with OptunaSearch and its own sampler, of the same seed.
        space: as in a study spec.
    """
    if isinstance(kind, Asha):
        yield _Tunes(kind, sampler.options["seed"], space, trials, steps)
        return
    import optuna

    options = complete(kind.name, kind.options)
    spec = StudySpec(
        name="simulated",
        trials=trials,
        sampler=sampler,
        pruner=Plugin(name=kind.name, **options),
        space=space,
        trainer={"steps": steps},
    )
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(),
        direction="maximize",
        study_name="simulated",
        pruner=make_pruner(kind.name, options),
    )
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "trials").mkdir()
        yield _Ours(Bridge(study, spec, Path(directory)))


class _Ours:
    """The bridge."""

    def __init__(self, bridge: Bridge) -> None:
        self.report, self.finish, self._bridge = bridge.report, bridge.finish, bridge

    def ask(self) -> tuple[int, Mapping[str, float]] | None:
        assignment = self._bridge.ask()
        return None if assignment is None else (assignment.number, assignment.params)

    def enough(self, number: int, report: Report) -> bool:
        self._bridge.look(number, step=report.step, samples=report.samples, solved=report.solved)
        return is_enough(self._bridge.directory / trial_directory(number), report.step, report.samples)


class _Tunes:
    """Called as `ray.tune.execution.tune_controller` calls them: a result goes to the scheduler, and to the searcher
    unless that stops the trial; at a trial's end both get its last result."""

    def __init__(self, asha: Asha, seed: int, space: dict[str, Any], trials: int, steps: int) -> None:
        from optuna.distributions import FloatDistribution
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        distributions = {
            key: FloatDistribution(each["low"], each["high"], log=each["type"] == "log-uniform")
            for key, each in space.items()
        }
        self._search = OptunaSearch(distributions, metric="value", mode="max", seed=seed)
        self._asha = ASHAScheduler(
            time_attr="step",
            metric="value",
            mode="max",
            max_t=steps,
            grace_period=asha.grace_period,
            reduction_factor=asha.reduction_factor,
        )
        self._asked, self._trials = 0, trials
        self._last: dict[int, dict[str, Any]] = {}

    def ask(self) -> tuple[int, Mapping[str, float]] | None:
        if self._asked == self._trials:
            return None
        number, self._asked = self._asked, self._asked + 1
        self._asha.on_trial_add(None, _named(number))
        return number, self._search.suggest(str(number))

    def report(self, number: int, report: Report) -> bool:
        result = {"step": report.step, "training_iteration": report.step, "value": report.value}
        self._last[number] = result
        if self._asha.on_trial_result(None, _named(number), result) == "STOP":
            return True
        self._search.on_trial_result(str(number), result)
        return False

    def enough(self, number: int, report: Report) -> bool:
        return False

    def finish(self, number: int) -> None:
        self._asha.on_trial_complete(None, _named(number), self._last[number])
        self._search.on_trial_complete(str(number), self._last[number])


def _named(number: int) -> Any:
    """All that ASHA reads of a trial of Tune's."""
    return SimpleNamespace(trial_id=str(number))
