"""Ray Tune over a `Bridge`: one searcher and one scheduler, two faces of the same bridge.

Tune asks the scheduler first and leaves the searcher out when the scheduler stops a trial, so the scheduler reports and
decides, and the searcher's completion call tells Optuna the end. Ray's own `OptunaSearch` cannot prune: it hard-codes
`NopPruner` and tells stopped trials COMPLETE.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.bridge import Bridge
from study.spec import Resources
from trainer.errors import root_line


class StudyAborted(BaseException):
    """Ends the whole study with `line`. Not an Exception: Tune would log those and go on."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line


def _aborts(method: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong on our side of Tune (a full disk, a locked database) ends the study instead of one trial."""

    @functools.wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            raise StudyAborted(root_line(error)) from error

    return guarded


class BridgeSearcher(Searcher):
    """Hands out the bridge's trials and tells it when one has ended."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._numbers: dict[str, int] = {}

    @_aborts
    def suggest(self, trial_id: str) -> Any:
        assignment = self._bridge.ask()
        if assignment is None:
            return Searcher.FINISHED
        self._numbers[trial_id] = assignment.number
        return {"number": assignment.number, "directory": str(assignment.directory)}

    @_aborts
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers[trial_id]
        if error:
            self._bridge.fail(number, "the trial's head process could not start; see driver.log")
        self._bridge.finish(number)


class BridgeScheduler(FIFOScheduler):
    """Passes results to the bridge and stops the trials it decides against.

    A result is ``{"step", "value"}``, with ``{"samples", "solved"}`` for pruners that see problems, or
    ``{"failed": reason, "user_error": bool}`` as a trial's last words. One with ``"done"`` does not come here: Tune
    stops the trial without asking.
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._trained = False
        self._user_errors: set[str] = set()

    @_aborts
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if "failed" in result:
            if result["user_error"]:
                self._refuse_hopeless(result["failed"])
            self._bridge.fail(number, result["failed"])
            return TrialScheduler.STOP
        self._trained = self._trained or result["step"] > 0
        problems = {key: result[key] for key in ("samples", "solved") if key in result}
        stop = self._bridge.report(number, result["step"], result["value"], **problems)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    @_aborts
    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._bridge.fail(trial.config["number"], "the trial's head process raised or died; see driver.log")

    def _refuse_hopeless(self, line: str) -> None:
        """A user error before any trial has trained, or the same one twice, will hit every trial."""
        if not self._trained or line in self._user_errors:
            raise StudyAborted(line)
        self._user_errors.add(line)


class RayAlive(tune.Callback):
    """Ends the study when no node of Ray is left; Tune would wait for one for ever."""

    _PERIOD = 5.0

    def __init__(self) -> None:
        self._next = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at the nodes every few seconds."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._PERIOD
        if not any(node["Alive"] for node in ray.nodes()):
            raise StudyAborted("Ray has died (killed, or out of memory); see driver.log")


def run_trials(bridge: Bridge, trainable: type[tune.Trainable], *, concurrency: int, scratch: Path) -> None:
    """Run all trials of the bridge's study, `concurrency` at a time, each in a placement group of its own.

    Args:
        trainable: its results are what `BridgeScheduler` takes.
        scratch: where Tune keeps its own files; nothing in it is needed afterwards.
    Raises:
        StudyAborted: something that would hit every trial.
    """
    resources = bridge.spec.resources
    # The head bundle is the trainable itself, which only waits: without CPUs it cannot starve the workers.
    group = tune.PlacementGroupFactory([{"CPU": 0}, *bundles(resources)])
    tuner = tune.Tuner(
        tune.with_resources(trainable, group),
        tune_config=tune.TuneConfig(
            search_alg=BridgeSearcher(bridge),
            scheduler=BridgeScheduler(bridge),
            num_samples=bridge.spec.trials,
            max_concurrent_trials=concurrency,
            # A new process imports for about 7 CPU seconds. With a GPU it starts clean, for the memory's sake.
            reuse_actors=resources.gpus_per_worker == 0,
        ),
        # Tune reads its own record of each trial at the end and complains in the log without one.
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[JsonLoggerCallback(), RayAlive()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()


def bundles(resources: Resources) -> list[dict[str, float]]:
    """The bundles of a trial's placement group, one for each worker."""
    bundle = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        bundle["GPU"] = resources.gpus_per_worker
    return [bundle] * resources.workers
