"""One trial on Ray: a worker actor in the trial's placement group trains, and every evaluation is a result for Tune."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from study.metric import metric_value, selecting_score
from study.spec import Resources, StudySpec
from trainer.config import TrainerConfig
from trainer.errors import TrainingDiverged, UserError, read_yaml, validate
from trainer.records import Evaluation


class Worker:
    """One process that trains. Between two evaluations it waits, so that a pruned run ends where it was pruned."""

    def __init__(self, rank: int, size: int) -> None:
        # LOCAL_RANK is 0: Ray shows a worker its own GPU only.
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK="0")
        self._run: Iterator[Evaluation] = iter(())

    def rendezvous(self) -> tuple[str, int]:
        """An address of this process's node, and a port that is free on it, where the ranks can meet."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def begin(self, directory: Path, address: tuple[str, int]) -> None:
        """Take up the `config.yaml` of `directory`; a run that is still open is closed. Raises UserError."""
        from trainer.train import train

        if hasattr(self._run, "close"):
            self._run.close()
        os.environ.update(MASTER_ADDR=address[0], MASTER_PORT=str(address[1]))
        if not directory.is_dir():
            raise UserError(
                f"--out {directory.parents[1]}: not visible on node {ray.util.get_node_ip_address()};"
                " put the study on a file system that all nodes share"
            )
        path = directory / "config.yaml"
        self._run = train(validate(TrainerConfig, read_yaml(path), source=str(path)), directory)

    def advance(self) -> dict[str, Any] | None:
        """Train up to the next evaluation and return it as JSON data; None after the last. Raises what `train` does."""
        evaluation = next(self._run, None)
        return None if evaluation is None else evaluation.model_dump(mode="json")


class StudyTrial(tune.Trainable):
    """What Tune runs for each trial. Its config is ``{"number", "directory"}``; the study directory says the rest.

    A result is ``{"step", "value", "samples", "solved"}``, or ``{"failed": reason, "user_error": bool}``, or
    ``{"done": True}`` at the end.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start the workers in the trial's placement group."""
        self._workers: list[Any] = []
        self._begin(Path(config["directory"]))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in this process and, unless the last one failed, in its workers."""
        self._begin(Path(new_config["directory"]))
        return True

    def step(self) -> dict[str, Any]:
        """Train up to the next evaluation of the set that selects."""
        try:
            while (data := self._advance()) is not None:
                evaluation = Evaluation.model_validate(data)
                score = selecting_score(evaluation, self._set_name)
                if score is not None:
                    value = metric_value(score, self._metric)
                    problems = {"samples": score.samples, "solved": list(score.solved)}
                    return {"step": evaluation.step, "value": value, **problems}
            return {"done": True}
        except (RayTaskError, RayActorError) as error:
            self.cleanup()  # the other ranks wait for one that will not come
            return last_words(error)

    def cleanup(self) -> None:
        """End the workers; their memory and devices are free at once."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    def _begin(self, directory: Path) -> None:
        spec = StudySpec.from_file(directory.parents[1] / "study.yaml")
        self._metric, self._set_name = spec.metric, spec.evaluation_config().sets[0].name
        if not self._workers:
            self._workers = [_start_worker(spec.resources, rank) for rank in range(spec.resources.workers)]
        address = self._workers[0].rendezvous.remote()
        self._begun = [worker.begin.remote(directory, address) for worker in self._workers]

    def _advance(self) -> dict[str, Any] | None:
        """The next evaluation, which every rank returns alike. Raises as soon as any rank has."""
        evaluations = [worker.advance.remote() for worker in self._workers]
        pending, self._begun = [*self._begun, *evaluations], []
        while pending:
            ready, pending = ray.wait(pending)
            ray.get(ready)
        return ray.get(evaluations[0])


def _start_worker(resources: Resources, rank: int) -> Any:
    # Tune drops the empty head bundle, so bundle number `rank` is the worker's.
    place = PlacementGroupSchedulingStrategy(ray.util.get_current_placement_group(), rank)
    options = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}
    return ray.remote(Worker).options(scheduling_strategy=place, **options).remote(rank, resources.workers)


def last_words(error: RayTaskError | RayActorError) -> dict[str, Any]:
    """What a trial reports when its worker raised or died: the reason in one line, and whether the user is to act."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return {"failed": str(cause), "user_error": True}
    if isinstance(cause, TrainingDiverged):
        return {"failed": str(cause), "user_error": False}
    if isinstance(error, RayActorError):
        return {"failed": "the worker process died (killed, or out of memory); see driver.log", "user_error": False}
    first = (str(cause).strip() or "no message").splitlines()[0]
    return {"failed": f"{type(cause).__name__}: {first}; see driver.log", "user_error": False}
