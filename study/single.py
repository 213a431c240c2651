"""One model without Ray or Optuna: `fipo train` and `fipo eval`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from rich.table import Table

from study.directory import require_free_path, write_or_refuse
from study.files import on_the_hub, read_files
from study.spec import set_dotted
from trainer import saturation
from trainer.config import TrainerConfig
from trainer.config_file import read_yaml, validate
from trainer.digits import per_cent
from trainer.errors import UserError
from trainer.records import Evaluation, SetScore

DEFAULT_PARENT = Path("runs")


def run(path: Path, directory: Path) -> Iterator[str]:
    """Train the config in `path` into `directory` and yield what begins, and a line for each set when it is evaluated.

    Raises:
        UserError: the config is not valid, `directory` exists, or something it names is missing.
        TrainingDiverged: a loss or gradient is not finite.
    """
    data = read_yaml(path)
    if "space" in data:
        raise UserError(f"{path}: this is a study file; run it with: fipo launch {path}")
    config = validate(TrainerConfig, data, source=str(path))
    for line in read_files([config], hub=False).mistakes:
        raise UserError(f"{path}: {line.removeprefix('trainer.')}")
    require_free_path(directory, default=True)
    from trainer.train import train

    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {directory}: cannot be made ({error.strerror}); choose another directory") from None
    write_or_refuse(directory / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    yield f"Loading {config.model.path}, which is evaluated before the first step"
    for evaluation in train(config, directory):
        assert isinstance(evaluation, Evaluation), "only a study races"
        for score in evaluation.scores:
            yield f"step {evaluation.step:>4}/{config.steps}  {score}  {evaluation.seconds:.0f} s"
    yield f"Metrics and evaluations: {directory}"
    yield f"The trained model, for fipo eval: python -m trainer.export {path} --run {directory} --out DIR"


def evaluation_table(
    model: str, data: list[str], *, samples: int, options: Mapping[str, object], tell: Callable[[str], None]
) -> Table:
    """Scores of `model` on the sets `data` (NAME=PATH), laid out as in the paper's Table 1.

    Args:
        samples: k, responses per problem.
        options: dotted trainer keys and their values, for example ``{"evaluation.temperature": 1.0}``.
        tell: is told what has to be fetched, which may take long.

    Raises:
        UserError: a set is not NAME=PATH, or model or data cannot be used.
    """
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
    for line in read_files([config], hub=False).mistakes:
        raise UserError(line.removeprefix("trainer."))
    for path in on_the_hub(config):
        tell(f"{path} is no file or directory here, so it is looked for on the Hugging Face hub")
    from trainer.train import evaluate_model

    return table_1(model, [result.score for result in evaluate_model(config)])


def table_1(model: str, scores: Sequence[SetScore]) -> Table:
    """The paper's Table 1 for one model: three accuracies for each set. Below, the errors of avg@k and the lengths."""
    table = Table("model", *(column for score in scores for column in _columns(score)))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, cells in (
        (model, lambda score: (_percent(score.accuracy), _percent(score.cons), _percent(score.pass_at_k))),
        ("± sampling", lambda score: (_error(score, "sampling"), "", "")),
        ("± problems", lambda score: (_error(score, "problems"), "", "")),
        ("length, tokens", lambda score: (f"{score.mean_length:.1f}", "", "")),
        ("cut at the limit", lambda score: (_percent(score.truncated), "", "")),
    ):
        table.add_row(name, *(cell for score in scores for cell in cells(score)), end_section=name == model)
    return table


def _columns(score: SetScore) -> tuple[str, str, str]:
    return f"{score.name}\navg@{score.samples}", f"\ncons@{score.samples}", f"\npass@{score.samples}"


def _error(score: SetScore, name: str) -> str:
    """Without spread the 95 % bound of the accuracy, in per cent as well."""
    found = next((each for each in saturation.errors(score) if each.name == name), None)
    if found is None:
        return "-"
    if found.bounds is None:
        return _percent(score.sampling_error if name == "sampling" else score.problem_error)
    samples = score.samples if name == "sampling" else 1
    return f"{saturation.in_words(score.accuracy, problems=len(score.solved), samples=samples)} (95 %)"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{per_cent(value)}%"
