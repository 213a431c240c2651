"""One trial on Ray: a worker actor in the trial's placement group trains, and every evaluation is reported to Tune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from study.metric import metric_value, selecting_score
from study.spec import Resources, StudySpec
from trainer.config import TrainerConfig
from trainer.errors import TrainingDiverged, UserError
from trainer.records import Evaluation


class Worker:
    """The process that trains. It is an actor of its own, so that the trial's head can always be stopped at once."""

    def run(self, config: dict[str, Any], directory: str) -> Iterator[dict[str, Any]]:
        """Train `config` in `directory` and yield every Evaluation as JSON data."""
        from trainer.train import train

        if not Path(directory).is_dir():
            raise UserError(
                f"--out {directory}: not visible on node {ray.util.get_node_ip_address()};"
                " put the study on a file system that all nodes share"
            )
        for evaluation in train(TrainerConfig.model_validate(config), Path(directory)):
            yield evaluation.model_dump(mode="json")


def bundles(resources: Resources) -> list[dict[str, float]]:
    """The bundles of a trial's placement group, one for each worker."""
    bundle = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        bundle["GPU"] = resources.gpus_per_worker
    return [bundle] * resources.workers


def make_trainable(spec: StudySpec) -> Callable[[dict[str, Any]], None]:
    """The function that Tune runs for each trial of `spec`."""
    resources, metric = spec.resources, spec.metric
    set_name = spec.evaluation_config().sets[0].name

    def trial(assignment: dict[str, Any]) -> None:
        # Tune drops the empty head bundle, so the worker's bundle is number 0.
        place = PlacementGroupSchedulingStrategy(ray.util.get_current_placement_group(), placement_group_bundle_index=0)
        worker = ray.remote(Worker).options(
            num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, scheduling_strategy=place
        )
        actor = worker.remote()
        try:
            for reference in actor.run.options(num_returns="streaming").remote(
                assignment["config"], assignment["directory"]
            ):
                evaluation = Evaluation.model_validate(ray.get(reference))
                score = selecting_score(evaluation, set_name)
                if score is not None:
                    tune.report({"step": evaluation.step, "value": metric_value(score, metric)})
        except (RayTaskError, RayActorError) as error:
            tune.report(last_words(error))
        finally:
            ray.kill(actor)

    return trial


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
