"""One trial on Ray: a worker actor in the trial's placement group trains, and every evaluation is a result for Tune."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from study.metric import metric_value, selecting_score
from study.spec import StudySpec
from trainer.config import TrainerConfig
from trainer.errors import TrainingDiverged, UserError, read_yaml, validate
from trainer.records import Evaluation


class Worker:
    """The process that trains. Between two evaluations it waits, so that a pruned run ends where it was pruned."""

    def __init__(self) -> None:
        self._run: Iterator[Evaluation] = iter(())

    def begin(self, directory: Path) -> None:
        """Take up the `config.yaml` of `directory`; a run that is still open is closed. Raises UserError."""
        from trainer.train import train

        if hasattr(self._run, "close"):
            self._run.close()
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

    A result is ``{"step", "value"}``, or ``{"failed": reason, "user_error": bool}``, or ``{"done": True}`` at the end.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start the worker in the trial's placement group."""
        self._worker: Any = None
        self._begin(Path(config["directory"]))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in this process and, where it lives, in its worker."""
        self._begin(Path(new_config["directory"]))
        return True

    def step(self) -> dict[str, Any]:
        """Train up to the next evaluation of the set that selects."""
        try:
            while True:
                evaluation = ray.get([self._begun, self._worker.advance.remote()])[1]
                if evaluation is None:
                    return {"done": True}
                evaluation = Evaluation.model_validate(evaluation)
                score = selecting_score(evaluation, self._set_name)
                if score is not None:
                    return {"step": evaluation.step, "value": metric_value(score, self._metric)}
        except (RayTaskError, RayActorError) as error:
            if isinstance(error, RayActorError):
                self._worker = None
            return last_words(error)

    def cleanup(self) -> None:
        """End the worker; its memory and devices are free at once."""
        if self._worker is not None:
            ray.kill(self._worker)

    def _begin(self, directory: Path) -> None:
        spec = StudySpec.from_file(directory.parents[1] / "study.yaml")
        self._metric, self._set_name = spec.metric, spec.evaluation_config().sets[0].name
        if self._worker is None:
            # Tune drops the empty head bundle, so the worker's bundle is number 0.
            place = PlacementGroupSchedulingStrategy(ray.util.get_current_placement_group(), 0)
            self._worker = (
                ray.remote(Worker)
                .options(
                    num_cpus=spec.resources.cpus_per_worker,
                    num_gpus=spec.resources.gpus_per_worker,
                    scheduling_strategy=place,
                )
                .remote()
            )
        self._begun = self._worker.begin.remote(directory)


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
