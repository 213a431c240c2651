"""One run without Ray or Optuna: `fipo train`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from study.storage import write_atomically
from trainer.config import TrainerConfig
from trainer.errors import UserError, read_yaml, validate

DEFAULT_PARENT = Path("runs")


def run(path: Path, directory: Path) -> Iterator[str]:
    """Train the config in `path` into `directory` and yield one line per evaluated set, when it is evaluated.

    Raises:
        UserError: the config is not valid, `directory` exists, or something it names is missing.
        TrainingDiverged: a loss or gradient is not finite.
    """
    config = validate(TrainerConfig, read_yaml(path), source=str(path))
    if directory.exists():
        raise UserError(
            f"--out {directory} exists; choose another directory, or leave --out away for the next free name"
        )
    from trainer.train import train

    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {directory}: cannot be made ({error.strerror}); choose another directory") from None
    write_atomically(directory / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    for evaluation in train(config, directory):
        for score in evaluation.scores:
            yield (
                f"step {evaluation.step:>4}/{config.steps}  {score.name}  avg@{score.samples} {score.accuracy:.4f}"
                f" ±{score.sampling_error:.4f} (sampling) ±{score.problem_error:.4f} (problems)"
                f"  cons@{score.samples} {score.cons:.4f}  pass@{score.samples} {score.pass_at_k:.4f}"
                f"  length {score.mean_length:.1f}  {evaluation.seconds:.0f} s"
            )
    yield f"Metrics and evaluations: {directory}"
