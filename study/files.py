"""The files that a study names: its problems and its model, read before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from study.mistakes import Mistakes
from study.space import contains
from study.spec import StudySpec
from trainer.config import RolloutConfig, TrainerConfig
from trainer.errors import UserError
from trainer.paths import expanded, is_local
from trainer.problems import Problem


class NamedFile(NamedTuple):
    """A set of problems or a model that a study names, and that was found."""

    key: str
    """Where it is named, for example `trainer.data.train`."""
    path: str
    problems: Sequence[Problem] = ()
    """None of a model."""

    def __str__(self) -> str:
        return f"{self.key} = {self.path!r}"


class StudyFiles(NamedTuple):
    """What was read of the files that a study names."""

    training: list[NamedFile]
    evaluation: list[NamedFile]
    models: list[NamedFile]
    mistakes: list[str]
    """What is wrong with the others, each in one line with its key."""


def read_files(configs: Sequence[TrainerConfig], *, spec: StudySpec | None = None, hub: bool) -> StudyFiles:
    """Read the problems and look for the models that the `configs` of a study name.

    Args:
        spec: of the study, which tells where a file is named; None for a run by itself.
        hub: also fetch what is no local file; without it a hub name is taken for right.
    """
    mistakes = Mistakes()
    found: dict[str, list[NamedFile]] = {"data": [], "evaluation": [], "model": []}
    for key, path, read in _reads(configs):
        if hub or not _may_be_hub_name(key, path):
            with mistakes:
                where = _where(spec, key, path)
                try:
                    found[key.partition(".")[0]].append(NamedFile(where, path, read() or []))
                except UserError as error:
                    raise UserError(_placed(where, path, str(error))) from None
    return StudyFiles(found["data"], found["evaluation"], found["model"], mistakes.lines)


def _reads(configs: Sequence[TrainerConfig]) -> Iterator[tuple[str, str, Callable[[], list[Problem] | None]]]:
    """Key, path, and what reads it and raises UserError; each once."""
    from trainer.data import evaluation_problems, load_problems

    for path in dict.fromkeys(each.data.train for each in configs):
        yield "data.train", path, lambda path=path: load_problems(path)
    evaluation = configs[0].evaluation  # the same in all trials
    for at, each in enumerate(evaluation.sets):
        alone = configs[0].model_copy(update={"evaluation": evaluation.model_copy(update={"sets": (each,)})})
        key, name = f"evaluation.sets[{at}].path", each.name
        yield key, each.path, lambda alone=alone, name=name: evaluation_problems(alone)[name]
    for path in dict.fromkeys(each.model.path for each in configs):
        rollouts = [each.rollout for each in configs if each.model.path == path]
        yield "model.path", path, lambda path=path, rollouts=rollouts: _require_model(path, rollouts)


def _where(spec: StudySpec | None, key: str, path: str) -> str:
    """The key of the study's file at which `path` is named."""
    if spec is None:
        return f"trainer.{key}"
    if key in spec.space and contains(spec.space[key], path):
        return f"space.{key}"
    control = next((each for each in spec.enqueue if each.values.get(key) == path), None)
    return f"enqueue {control.label}: {key}" if control else f"trainer.{key}"


def relative_paths(configs: Sequence[TrainerConfig], spec: StudySpec) -> list[str]:
    """What the `configs` name by a path that depends on where a process stands, each in one line with its key."""
    return [
        f"{_where(spec, key, path)} = {path!r}: on a cluster a relative path is looked for where Ray was started on"
        f" each node; write {Path(path).absolute()}, on a file system that all nodes see"
        for key, path, _ in _reads(configs)
        if path.partition(":")[0] != "embedded"
        and not _may_be_hub_name(key, path)
        and not Path(expanded(path)).is_absolute()
    ]


def on_the_hub(config: TrainerConfig) -> list[str]:
    """What an evaluation by `config` reads that is not here, and may be on the hub."""
    reads = (("model.path", config.model.path), *(("evaluation.sets", each.path) for each in config.evaluation.sets))
    return [path for key, path in reads if _may_be_hub_name(key, path)]


def _may_be_hub_name(key: str, path: str) -> bool:
    """Whether nothing local can be meant: there is no such file, and it looks like owner/name."""
    from trainer.data import SUFFIXES

    local = (
        path.partition(":")[0] == "embedded"
        or is_local(path)
        or path.lower().endswith(SUFFIXES)
        or Path(expanded(path)).exists()
    )
    return not local and (path.count("/") == 1 or ("/" not in path and key == "model.path"))


def _placed(key: str, path: str, line: str) -> str:
    """A reader's line with the key that named the file in place of the file's name alone."""
    relative = "no such file" in line and not path.startswith(("/", "~"))
    more = f"; a relative path is looked for in {Path.cwd()}" if relative else ""
    return f"{key} = {path!r}{line.removeprefix(path)}{more}"


def _require_model(path: str, rollouts: Sequence[RolloutConfig]) -> None:
    """Raise UserError where no model is, or one with too few positions for a response or heads for an engine."""
    if path == "embedded":
        return
    place = Path(expanded(path))
    if (is_local(path) or place.is_dir()) and not (place / "config.json").exists():
        run = f"; that of a run: python -m trainer.export {place / 'config.yaml'} --run {place} --out DIR"
        made = run if (place / "checkpoints").is_dir() else ""
        raise UserError(f"{path}: no config.json there; give a model directory, a hub name or embedded{made}")
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(expanded(path), trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: no model there ({first}); give a directory or a hub name") from None
    longest = max(each.max_response_length for each in rollouts)
    allowed = getattr(config, "max_position_embeddings", None)
    if allowed is not None and longest >= allowed:
        raise UserError(
            f"{path}: its config.json allows {allowed:,} positions, and rollout.max_response_length = {longest:,} needs"
            " more; lower that, or give a local copy with a higher max_position_embeddings in its config.json"
        )
    from trainer.vllm_limits import key_value_heads

    for width in sorted({each.vllm.tensor_parallel_size for each in rollouts if each.backend != "transformers"}):
        if width > 1 and (heads := key_value_heads(config)) % width:
            raise UserError(
                f"{path}: its {heads} key-value heads cannot be cut over an engine of"
                f" rollout.vllm.tensor_parallel_size = {width} ranks, which must divide them; lower it"
            )
