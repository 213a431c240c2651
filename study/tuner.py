"""Ray Tune over a `Bridge`: one searcher and one scheduler, two faces of the same bridge.

Tune asks the scheduler first and leaves the searcher out when the scheduler stops a trial, so the scheduler reports and
decides, and the searcher's completion call tells Optuna the end. Ray's own `OptunaSearch` cannot prune: it hard-codes
`NopPruner` and tells stopped trials COMPLETE.
"""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.assignment import Report
from study.bridge import Bridge, StudyAborted
from study.cluster import remove_groups, strategy
from study.head import require_head
from study.signals import came, raise_lost_interrupt
from study.spec import Resources
from study.supervisor import NotSaved, Supervisor, aborts, require_directory, require_own_node
from study.trackers import logged, trackers
from trainer.errors import root_line

REPORTED = tuple(field.name for field in dataclasses.fields(Report))
DIED = "a process of the trial died or lost the others (killed, out of memory, its node or network, rank_timeout)"


class BridgeSearcher(NotSaved, Searcher):
    """Hands out the bridge's trials, at most `concurrency` at a time, and tells it when one has ended."""

    def __init__(self, bridge: Bridge, concurrency: Callable[[], int], supervisor: Supervisor) -> None:
        super().__init__()
        self._bridge, self._concurrency, self._supervisor = bridge, concurrency, supervisor
        self._numbers: dict[str, int] = {}

    @aborts
    def suggest(self, trial_id: str) -> Any:
        require_head()
        if not self._numbers:  # while there is no trial Tune asks here, and takes no step for up to ten minutes
            self._supervisor.look([])
        if self._bridge.ending is None and len(self._numbers) >= self._concurrency():
            return None
        assignment = self._bridge.ask()
        if assignment is None:  # while trials run, there may be more to come
            return None if self._numbers else Searcher.FINISHED
        self._numbers[trial_id] = assignment.number
        where = {"number": assignment.number, "directory": str(assignment.directory)}
        return {**where, **logged(self._bridge.spec, assignment)}

    @aborts
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id)
        if error:
            self._bridge.fail(number, f"{DIED} more often than resources.retries allows; see driver.log")
        self._bridge.finish(number)


class BridgeScheduler(NotSaved, FIFOScheduler):
    """Passes results to the bridge and stops the trials it decides against.

    A result is a `Report`, a `RacingLook` or `LastWords`, see `study.assignment`.
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._trained = False
        self._errors: set[str] = set()

    @aborts
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if "abort" in result:
            raise StudyAborted(result["abort"])
        if "failed" in result:
            require_directory(self._bridge.directory)  # else every trial fails in turn, and none can be resumed
            if result["user_error"] or result.get("unexpected"):
                self._refuse_hopeless(result["failed"], user=result["user_error"])
            self._bridge.fail(number, result["failed"])
            return TrialScheduler.STOP
        if "stopped" in result:
            return TrialScheduler.STOP
        if "look" in result:
            self._bridge.look(number, step=result["step"], samples=result["look"], solved=result["solved"])
            return TrialScheduler.CONTINUE
        self._trained = self._trained or result["step"] > 0
        stop = self._bridge.report(number, Report(**{key: result[key] for key in REPORTED if key in result}))
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    @aborts
    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A process of the trial died, or lost the others. Tune starts it anew, or tells the searcher that it has
        failed for good."""
        require_own_node()  # before Tune starts it where nothing can run any more
        trial.config["deaths"] = trial.config.get("deaths", 0) + 1
        self._bridge.died(trial.config["number"])

    def _refuse_hopeless(self, line: str, *, user: bool) -> None:
        """What will hit every trial ends the study: a user error before any has trained, or the same one twice; what no
        one has thought of only when it came twice and none has trained.

        The trial that it hit stays open: it goes on once that is mended. It may be a control, of which each is one.
        """
        again = line in self._errors
        if (user and not self._trained) or (again and (user or not self._trained)):
            raise StudyAborted(line)
        self._errors.add(line)


def run_trials(
    bridge: Bridge, trainable: type[tune.Trainable], *, concurrency: Callable[[], int], scratch: Path
) -> None:
    """Run all trials of the bridge's study, each in a placement group of its own.

    A trial of which a process dies is started again up to `resources.retries` times, with the same config but for
    ``deaths``, the number of times it died; it goes on from its checkpoint.

    Args:
        trainable: its results are what `BridgeScheduler` takes. It must take up a trial where its directory says.
        concurrency: how many trials may run, asked each time.
        scratch: where Tune keeps its own files; nothing in it is needed afterwards.
    Raises:
        StudyAborted: something that would hit every trial.
    """
    resources = bridge.spec.resources
    # The head bundle is the trainable itself, which only waits: without CPUs it cannot starve the workers.
    group = tune.PlacementGroupFactory([{"CPU": 0}, *bundles(resources)], strategy=strategy(resources))
    supervisor = Supervisor(bridge, concurrency)
    tuner = tune.Tuner(
        tune.with_resources(trainable, group),
        tune_config=tune.TuneConfig(
            search_alg=BridgeSearcher(bridge, concurrency, supervisor),
            scheduler=BridgeScheduler(bridge),
            num_samples=-1,  # the searcher says when all have been given out
            # A new process imports for about 7 CPU seconds. With a GPU it starts clean, for the memory's sake.
            reuse_actors=resources.gpus_per_worker == 0,
            trial_name_creator=lambda trial: Path(trial.config["directory"]).name,  # of its run in W&B and MLflow
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),  # without a place for its own records Tune complains in the log
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=resources.retries),
            callbacks=[*trackers(bridge.spec, bridge.directory), supervisor],
            stop=supervisor,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        tuner.fit()
    except StudyAborted:
        raise_lost_interrupt()  # what the signal has ended too, as a Ray of one's own, aborts nothing
        raise
    except Exception as error:  # of Tune itself or of a tracker; none is a trial's
        raise_lost_interrupt()
        traceback.print_exc()  # into driver.log
        raise StudyAborted(root_line(error)) from error
    finally:
        # A Ray of one's own ends with the study, and may do so already by the signal: the call would wait for it.
        if resources.ray_address is not None or not came():
            with contextlib.suppress(Exception):  # Ray has died, and its groups with it
                remove_groups()


def bundles(resources: Resources) -> list[dict[str, float]]:
    """The bundles of a trial's placement group, one for each worker."""
    bundle = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        bundle["GPU"] = resources.gpus_per_worker
    return [bundle] * resources.workers
