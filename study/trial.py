"""One trial on Ray: worker actors in the trial's placement group train, and every evaluation is a result for Tune."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, get_current_placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from study.assignment import LastWords
from study.clock import now
from study.collapse import collapse_reason
from study.directory import is_enough
from study.metric import metric_value
from study.spec import StudySpec
from study.worker import Worker, require_visible
from trainer.errors import RankLost, TrainingDiverged, UserError
from trainer.records import Evaluation, SetScore

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
"""How often a trial looks whether it is to stop."""
_LAST_WORDS_SECONDS = 5.0
"""How long the other ranks have to say why one raised."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class _Stopped(Exception):
    """The bridge has asked for the trial's end."""


class StudyTrial(tune.Trainable):
    """What Tune runs for each trial. Its config is ``{"number", "directory"}``; the study directory says the rest.

    A result is a `Report` of `study.assignment` with the newest metrics, a `RacingLook`, `LastWords`, or at the end
    ``{"done": True}``.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start the workers in the trial's placement group, after a pause if they died before."""
        self._workers: list[Any] = []
        if config.get("deaths"):
            time.sleep(min(2.0 ** config["deaths"], 60.0))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in this process and, unless the last one failed, in its workers."""
        self._refused: UserError | None = None
        try:
            self._begin(Path(new_config["directory"]))
        except UserError as error:
            self._refused = error  # `step` tells it: Ray would make a death of what is raised here
        return True

    def step(self) -> Mapping[str, Any]:
        """Train up to the next evaluation of the set that selects, or the next look at one that races.

        Raises:
            RayActorError: a process of the trial died.
            RankLost: the ranks lost each other, and all processes live. For Tune it is a death as any other.
        """
        if self._refused is not None:
            self.cleanup()
            return LastWords(failed=str(self._refused), user_error=True)
        try:
            while (told := self._advance()) is not None:
                if "look" in told:
                    self._look = told["step"], told["look"]
                    return {**told, "training_iteration": told["step"]}
                evaluation = Evaluation.model_validate(told["evaluation"])
                self._metrics += told["metrics"]
                score = evaluation.score(self._set_name)
                if score is not None:
                    return self._result(evaluation, score)
            return {"done": True}
        except _Stopped:
            self.cleanup()
            return LastWords(stopped=True)
        except RayTaskError as error:
            self.cleanup()  # the other ranks wait for one that will not come
            if isinstance(error.cause, RankLost):
                raise
            return last_words(error)

    def cleanup(self) -> None:
        """End the workers; their memory and devices are free at once."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    def _begin(self, directory: Path) -> None:
        require_visible(directory)
        spec = StudySpec.from_file(directory.parents[1] / "study.yaml")
        self._directory = directory
        self._metric, self._set_name = spec.metric, spec.selecting.name
        self._collapse = spec.collapse
        self._scores: list[tuple[int, SetScore]] = []
        self._policy_kl: list[tuple[int, float | None]] = []
        self._metrics: list[dict[str, Any]] = []
        self._look: tuple[int, int] | None = None
        if not self._workers:
            self._workers = start_workers(get_current_placement_group(), spec)
        address = self._workers[0].rendezvous.remote()
        self._begun = [worker.begin.remote(directory, address) for worker in self._workers]

    def _result(self, evaluation: Evaluation, score: SetScore) -> dict[str, Any]:
        metrics, self._metrics = self._metrics, []
        self._policy_kl += [(line["step"], line.get("policy_kl")) for line in metrics]
        self._scores.append((evaluation.step, score))
        result = {
            "step": evaluation.step,
            "training_iteration": evaluation.step,  # the abscissa of Tune's trackers
            "value": metric_value(score, self._metric),
            "samples": score.samples,
            "solved": list(score.solved),
            "length": score.mean_length,
            "seconds": evaluation.seconds,
            "tokens": evaluation.tokens,
            # For the trackers: every step since the result before.
            "metrics": [{name: value for name, value in line.items() if value is not None} for line in metrics],
        }
        if self._collapse is not None:
            reason = collapse_reason(self._collapse, self._policy_kl, self._scores)
            result |= {"collapsed": reason} if reason else {}
        return result

    def _advance(self) -> Mapping[str, Any] | None:
        """The next evaluation or look, which every rank returns alike. Raises as soon as any rank has."""
        look, self._look = self._look, None
        enough = look is not None and is_enough(self._directory, *look)
        told = [worker.advance.remote(enough) for worker in self._workers]
        pending, self._begun = [*self._begun, *told], []
        while pending:
            ready, pending = ray.wait(pending, timeout=_POLL_SECONDS)
            if not ready and (self._directory / "stop").exists():
                raise _Stopped
            try:
                ray.get(ready)
            except RayTaskError as error:
                raise first_cause(error, pending) from None
        return ray.get(told[0])


def first_cause(error: RayTaskError, pending: list[Any]) -> RayError:
    """Why one of the calls raised `error`: a rank that loses another one raises too, and often sooner. The death of a
    process is before all else, and that a rank was lost is the cause only where no rank says more."""
    ready, _ = ray.wait(pending, num_returns=len(pending), timeout=_LAST_WORDS_SECONDS) if pending else ([], [])
    for call in ready:
        try:
            ray.get(call)
        except RayActorError as death:
            return death
        except RayTaskError as other:
            if isinstance(error.cause, RankLost) and not isinstance(other.cause, RankLost):
                error = other
    return error


def node_by_node(nodes: Mapping[int, str]) -> list[int]:
    """The bundles of a placement group in the order of the ranks, those of one node together.

    Ray spreads equal bundles over nodes in no order, and an engine of several ranks is slow across nodes. Nodes with
    more of them come first: one that holds an odd number moves the engines on all nodes after it.

    Args:
        nodes: the node of each bundle. Tune drops the empty head bundle, so all are workers'.
    """
    shares = Counter(nodes.values())
    return sorted(nodes, key=lambda bundle: (-shares[nodes[bundle]], nodes[bundle], bundle))


def start_workers(group: PlacementGroup, spec: StudySpec) -> list[Any]:
    """A worker in each bundle of `group`, which has been placed, by rank. Engines over several nodes are logged."""
    resources, width = spec.resources, spec.engine_width
    nodes = placement_group_table(group)["bundles_to_node_id"]
    bundles = node_by_node(nodes)
    by_rank = [nodes[bundle] for bundle in bundles]
    engines = [set(by_rank[first : first + width]) for first in range(0, len(by_rank), width)]
    if split := sum(len(each) > 1 for each in engines):
        log.warning(
            "%d of the trial's %d vLLM engines lie on several nodes, and each layer waits for the network: the nodes"
            " hold %s ranks, and rollout.vllm.tensor_parallel_size = %d does not divide each of these",
            split, len(engines), ", ".join(map(str, Counter(by_rank).values())), width,
        )  # fmt: skip
    options = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}
    return [
        ray.remote(Worker)
        .options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, bundle), **options)
        .remote(rank, resources.workers, resources.gpus_per_worker)
        for rank, bundle in enumerate(bundles)
    ]


def last_words(error: RayTaskError) -> LastWords:
    """What a trial reports when its worker raised."""
    cause = error.cause
    if isinstance(cause, UserError):
        return {"failed": str(cause), "user_error": True}
    if isinstance(cause, TrainingDiverged):
        return {"failed": str(cause), "user_error": False}
    # Libraries wrap such errors in their own; the text of the traceback still has the words.
    full = next((text for text in map(os.strerror, _NO_ROOM) if text in str(error)), None)
    if full is not None:
        return {"abort": f"{full} while a trial was writing"}
    print(f"{now()} {error}", flush=True)  # into driver.log, where the line below sends whoever reads it
    first = (str(cause).strip() or "no message").splitlines()[0]
    return {"failed": f"{type(cause).__name__}: {first}; see driver.log", "user_error": False, "unexpected": True}
