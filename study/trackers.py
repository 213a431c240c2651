"""Trackers of experiments: Ray Tune's own callbacks for TensorBoard, Weights & Biases and MLflow."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray.air._internal import usage
from ray.tune.logger import JsonLoggerCallback, LoggerCallback, TBXLoggerCallback

from study import attributes
from study.assignment import Assignment
from study.spec import StudySpec, get_dotted


def logged(spec: StudySpec, assignment: Assignment) -> dict[str, Any]:
    """What trackers keep of a trial beside its numbers: the value of each key that any trial of `spec` has a value of
    its own for, its ``seed``, the ``label`` it was enqueued under and the trial that it ``confirms``."""
    known = assignment.known
    controls = (key for control in spec.enqueue for key in control.values)
    keys = [*assignment.params, *controls, *known.get(attributes.BESIDE, {}), "seed"]
    role = {"label": known.get(attributes.LABEL), "confirms": known.get(attributes.CONFIRMS)}
    return {key: get_dotted(assignment.config, key) for key in keys} | {
        name: value for name, value in role.items() if value is not None
    }


class EveryStep(LoggerCallback):
    """Has a tracker log each training step. Tune gives it one result an evaluation, with the steps since the last."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._newest: dict[Any, int] = {}

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        if "look" in result:  # W&B takes no earlier step after its own, and those before it are not told yet
            return
        steps = result.get("metrics", [])
        *before, last = [each for each in steps if each["step"] > self._newest.get(trial, -1)] or [{}]
        for each in before:
            super().log_trial_result(each["step"], trial, {"training_iteration": each["step"], "metrics": each})
        if steps:  # a trial that goes on after a death tells all again
            self._newest[trial] = steps[-1]["step"]
        super().log_trial_result(iteration, trial, {**result, "metrics": last})


class TensorBoard(EveryStep, TBXLoggerCallback):
    """Tune's callback, writing to `tensorboard/<trial>` of the study directory instead of Tune's scratch one."""

    def log_trial_start(self, trial: Any) -> None:
        directory = Path(trial.config["directory"])
        place = directory.parents[1] / "tensorboard" / directory.name
        self._trial_writer[trial] = self._summary_writer_cls(str(place), flush_secs=30)
        self._trial_result[trial] = {}


def trackers(spec: StudySpec, directory: Path) -> list[LoggerCallback]:
    """The callbacks that `spec` asks for; what they write for themselves goes to the study's `directory`."""
    # Ray counts them for its usage report, which is off by default, and to do so loads all trackers: 2 CPU seconds.
    usage.tag_callbacks = lambda callbacks: False
    with _not_found("torch"):  # tensorboardX loads it for tensors, of which it gets none: 2 CPU seconds, 200 MB
        tensorboard = TensorBoard()
    # Tune reads its own record of each trial at the end and complains in the log without one.
    found: list[LoggerCallback] = [JsonLoggerCallback(), tensorboard]
    if spec.tracking.wandb is not None:
        from ray.air.integrations.wandb import WandbLoggerCallback

        class Wandb(EveryStep, WandbLoggerCallback):
            pass

        found.append(Wandb(project=spec.tracking.wandb.project, group=spec.name, **_of_wandb(directory)))
    if spec.tracking.mlflow is not None:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        class Named(MLflowLoggerCallback):
            def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
                super().log_trial_result(iteration, trial, _named_for_mlflow(result))

        class Mlflow(EveryStep, Named):
            pass

        uri = spec.tracking.mlflow.tracking_uri
        found.append(Mlflow(tracking_uri=uri, experiment_name=spec.name))
    return found


def _of_wandb(directory: Path) -> dict[str, Any]:
    """For ``wandb.init``, what the environment of this process says. Ray's callback runs it in an actor, which on a
    cluster has the environment of `ray start`, and gives that the key alone.

    Without a directory its files would lie under Tune's scratch one, which goes at the end, and with it the runs of
    WANDB_MODE=offline.
    """
    variables = {"dir": "WANDB_DIR", "mode": "WANDB_MODE", "entity": "WANDB_ENTITY"}
    said = {name: os.environ[variable] for name, variable in variables.items() if os.environ.get(variable)}
    server = os.environ.get("WANDB_BASE_URL")
    return {"dir": str(directory)} | said | ({"settings": {"base_url": server}} if server else {})


def _named_for_mlflow(result: dict[str, Any]) -> dict[str, Any]:
    """`result` with ``avg_at_8`` for ``avg@8``: MLflow takes no @ in a metric's name."""
    return {
        key.replace("@", "_at_"): _named_for_mlflow(value) if isinstance(value, dict) else value
        for key, value in result.items()
    }


@contextlib.contextmanager
def _not_found(module: str) -> Iterator[None]:
    """What is imported inside the block does without `module`, unless something has loaded that before."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
