"""Trackers of experiments: Ray Tune's own callbacks for TensorBoard, Weights & Biases and MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.logger import JsonLoggerCallback, LoggerCallback, TBXLoggerCallback

from study.spec import StudySpec


class TensorBoard(TBXLoggerCallback):
    """Tune's callback, writing to `tensorboard/<trial>` of the study directory instead of Tune's scratch one."""

    def log_trial_start(self, trial: Any) -> None:
        directory = Path(trial.config["directory"])
        place = directory.parents[1] / "tensorboard" / directory.name
        self._trial_writer[trial] = self._summary_writer_cls(str(place), flush_secs=30)
        self._trial_result[trial] = {}


def trackers(spec: StudySpec) -> list[LoggerCallback]:
    """The callbacks that `spec` asks for."""
    # Tune reads its own record of each trial at the end and complains in the log without one.
    found: list[LoggerCallback] = [JsonLoggerCallback(), TensorBoard()]
    if spec.tracking.wandb is not None:
        from ray.air.integrations.wandb import WandbLoggerCallback

        found.append(WandbLoggerCallback(project=spec.tracking.wandb.project, group=spec.name))
    if spec.tracking.mlflow is not None:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        uri = spec.tracking.mlflow.tracking_uri
        found.append(MLflowLoggerCallback(tracking_uri=uri, experiment_name=spec.name))
    return found
