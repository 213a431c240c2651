"""One trial on Ray: worker actors in the trial's placement group train, and every evaluation is a result for Tune."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray import tune
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from study.assignment import LastWords, RacingLook
from study.collapse import collapse_reason
from study.directory import is_enough
from study.metric import metric_value, selecting_score
from study.spec import Resources, StudySpec
from trainer.config import TrainerConfig
from trainer.config_file import read_config
from trainer.errors import TrainingDiverged, UserError
from trainer.records import Evaluation, Look, SetScore, read_lines

_POLL_SECONDS = 1.0
"""How often a trial looks whether it is to stop."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PREDECESSOR_SECONDS = 60.0
"""How long a worker waits for one that an earlier driver left behind, which ends as soon as it misses its Ray."""


class Worker:
    """One process that trains. Between two evaluations it waits, so that a pruned run ends where it was pruned."""

    def __init__(self, rank: int, size: int) -> None:
        # LOCAL_RANK is 0: Ray shows a worker its own GPU only.
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK="0")
        self._rank = rank
        self._run: Generator[Evaluation | Look, bool | None, None] | None = None
        self._lock: FileLock | None = None

    def rendezvous(self) -> tuple[str, int]:
        """An address of this process's node, and a port that is free on it, where the ranks can meet."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def begin(self, directory: Path, address: tuple[str, int]) -> None:
        """Take up the run in `directory`, from its checkpoint if it has one; a run that is still open is closed.

        Raises:
            UserError: the directory is not there, or its config is not valid.
        """
        from trainer.train import train

        if self._run is not None:
            self._run.close()
        os.environ.update(MASTER_ADDR=address[0], MASTER_PORT=str(address[1]))
        if not directory.is_dir():
            raise UserError(
                f"--out {directory.parents[1]}: not visible on node {ray.util.get_node_ip_address()};"
                " put the study on a file system that all nodes share"
            )
        self._hold(directory)
        path = directory / "config.yaml"
        self._directory, self._told = directory, -1
        config = read_config(TrainerConfig, path)
        self._run = train(config, directory, resume=True, races=True)

    def advance(self, enough: bool) -> Mapping[str, Any] | None:
        """Train up to the next evaluation, or the next look at one that races; None after the last. Raises what `train`
        does.

        Args:
            enough: after a look, that no more samples are wanted.
        Returns:
            ``{"evaluation": JSON data, "metrics": the lines of metrics.jsonl since the evaluation before}``, or a
            `RacingLook`.
        """
        assert self._run is not None, "begin comes first"
        try:
            evaluation = self._run.send(enough or None)  # a generator begins with None
        except StopIteration:
            return None
        if isinstance(evaluation, Look):
            score = evaluation.score
            return RacingLook(step=evaluation.step, look=score.samples, solved=list(score.solved))
        lines = read_lines(self._directory / "metrics.jsonl") if self._rank == 0 else []
        lines = [line for line in lines if self._told < line["step"] <= evaluation.step]
        self._told = evaluation.step
        return {"evaluation": evaluation.model_dump(mode="json"), "metrics": lines}

    def _hold(self, directory: Path) -> None:
        """One process writes a run. The lock goes with the process, so a dead one holds nothing."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._rank != 0:
            return
        lock = FileLock(directory / "run.lock")
        try:
            lock.acquire(timeout=_PREDECESSOR_SECONDS)
        except Timeout:
            raise UserError(f"{directory}: another process still trains there; end it, and: fipo resume") from None
        self._lock = lock


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
        self._begin(Path(config["directory"]))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in this process and, unless the last one failed, in its workers."""
        self._begin(Path(new_config["directory"]))
        return True

    def step(self) -> Mapping[str, Any]:
        """Train up to the next evaluation of the set that selects, or the next look at one that races.

        Raises:
            RayActorError: a process of the trial died.
        """
        try:
            while (told := self._advance()) is not None:
                if "look" in told:
                    self._look = told["step"], told["look"]
                    return {**told, "training_iteration": told["step"]}
                evaluation = Evaluation.model_validate(told["evaluation"])
                self._policy_kl += [(line["step"], line.get("policy_kl")) for line in told["metrics"]]
                score = selecting_score(evaluation, self._set_name)
                if score is not None:
                    return self._result(evaluation, score, told["metrics"])
            return {"done": True}
        except _Stopped:
            self.cleanup()
            return LastWords(stopped=True)
        except RayTaskError as error:
            self.cleanup()  # the other ranks wait for one that will not come
            return last_words(error)

    def cleanup(self) -> None:
        """End the workers; their memory and devices are free at once."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    def _begin(self, directory: Path) -> None:
        spec = StudySpec.from_file(directory.parents[1] / "study.yaml")
        self._directory = directory
        self._metric, self._set_name = spec.metric, spec.evaluation_config().sets[0].name
        self._collapse = spec.collapse
        self._scores: list[tuple[int, SetScore]] = []
        self._policy_kl: list[tuple[int, float | None]] = []
        self._look: tuple[int, int] | None = None
        if not self._workers:
            self._workers = [_start_worker(spec.resources, rank) for rank in range(spec.resources.workers)]
        address = self._workers[0].rendezvous.remote()
        self._begun = [worker.begin.remote(directory, address) for worker in self._workers]

    def _result(self, evaluation: Evaluation, score: SetScore, metrics: list[dict[str, Any]]) -> dict[str, Any]:
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
            "metrics": {name: value for name, value in metrics[-1].items() if value is not None} if metrics else {},
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
            except RayTaskError:
                _raise_death(pending)  # a rank that loses another one raises too, and often sooner
                raise
        return ray.get(told[0])


def _raise_death(pending: list[Any]) -> None:
    """Raise RayActorError if one of the calls ended, or ends soon, by the death of its process."""
    ready, _ = ray.wait(pending, num_returns=len(pending), timeout=5.0) if pending else ([], [])
    for call in ready:
        try:
            ray.get(call)
        except RayActorError:
            raise
        except RayError:
            continue


def _start_worker(resources: Resources, rank: int) -> Any:
    # Tune drops the empty head bundle, so bundle number `rank` is the worker's.
    place = PlacementGroupSchedulingStrategy(ray.util.get_current_placement_group(), rank)
    options = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}
    return ray.remote(Worker).options(scheduling_strategy=place, **options).remote(rank, resources.workers)


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
    first = (str(cause).strip() or "no message").splitlines()[0]
    return {"failed": f"{type(cause).__name__}: {first}; see driver.log", "user_error": False}
