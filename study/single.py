"""One model without Ray or Optuna: `fipo train` and `fipo eval`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from rich.table import Table

from study.directory import write_atomically
from study.spec import set_dotted
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
            yield f"step {evaluation.step:>4}/{config.steps}  {score}  {evaluation.seconds:.0f} s"
    yield f"Metrics and evaluations: {directory}"


def evaluation_table(model: str, data: list[str], options: dict[str, object]) -> Table:
    """Scores of `model` on the sets `data` (NAME=PATH), laid out as in the paper's Table 1.

    Args:
        options: dotted trainer keys and their values, for example ``{"evaluation.temperature": 1.0}``.

    Raises:
        UserError: a set is not NAME=PATH, or model or data cannot be used.
    """
    samples = options.pop("samples")
    sets = []
    for each in data:
        name, separator, path = each.partition("=")
        if not separator:
            raise UserError(f"--data {each}: must be NAME=PATH, for example aime_2024=aime_2024.jsonl; add the name")
        sets.append({"name": name, "path": path, "samples": samples, "every": None})
    content: dict[str, object] = {"model": {"path": model}, "evaluation": {"sets": sets, "completions": 0}}
    for key, value in options.items():
        set_dotted(content, key, value)
    config = validate(TrainerConfig, content, source="fipo eval")
    from trainer.train import evaluate_model

    table = Table("set", "avg@k", "± sampling", "± problems", "cons@k", "pass@k", "k", "length (tokens)", "cut")
    for score in evaluate_model(config):
        table.add_row(
            score.name,
            f"{score.accuracy:.1%}",
            "-" if score.sampling_error is None else f"{score.sampling_error:.1%}",
            "-" if score.problem_error is None else f"{score.problem_error:.1%}",
            f"{score.cons:.1%}",
            f"{score.pass_at_k:.1%}",
            str(score.samples),
            f"{score.mean_length:.1f}",
            f"{score.truncated:.1%}",
        )
    return table
