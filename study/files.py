"""The files that a study names: its problems and its model, read before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from study.mistakes import Mistakes
from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.paths import expanded, is_local


def file_mistakes(configs: Sequence[TrainerConfig], *, swept: Collection[str], hub: bool) -> list[str]:
    """What is wrong with the problems and models that the `configs` of a study name, each with its key.

    Args:
        swept: keys of the space.
        hub: also fetch what is no local file; without it a hub name is taken for right.
    """
    mistakes = Mistakes()
    for key, path, read in _reads(configs):
        if hub or not _may_be_hub_name(key, path):
            with mistakes:
                try:
                    read()
                except UserError as error:
                    where = "space" if key in swept else "trainer"
                    raise UserError(_placed(f"{where}.{key}", path, str(error))) from None
    return mistakes.lines


def _reads(configs: Sequence[TrainerConfig]) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Key, path, and what reads it and raises UserError; each once."""
    from trainer.data import evaluation_problems, load_problems

    for path in dict.fromkeys(each.data.train for each in configs):
        yield "data.train", path, lambda path=path: load_problems(path)
    evaluation = configs[0].evaluation  # the same in all trials
    for at, each in enumerate(evaluation.sets):
        alone = configs[0].model_copy(update={"evaluation": evaluation.model_copy(update={"sets": (each,)})})
        yield f"evaluation.sets[{at}].path", each.path, lambda alone=alone: evaluation_problems(alone)
    for path in dict.fromkeys(each.model.path for each in configs):
        if path != "embedded":
            yield "model.path", path, lambda path=path: _require_model(path)


def on_the_hub(config: TrainerConfig) -> list[str]:
    """What an evaluation by `config` reads that is not here, and may be on the hub."""
    reads = (("model.path", config.model.path), *(("evaluation.sets", each.path) for each in config.evaluation.sets))
    return [path for key, path in reads if path.partition(":")[0] != "embedded" and _may_be_hub_name(key, path)]


def _may_be_hub_name(key: str, path: str) -> bool:
    """Whether nothing local can be meant: there is no such file, and it looks like owner/name."""
    from trainer.data import SUFFIXES

    local = is_local(path) or path.lower().endswith(SUFFIXES) or Path(expanded(path)).exists()
    return not local and (path.count("/") == 1 or ("/" not in path and key == "model.path"))


def _placed(key: str, path: str, line: str) -> str:
    """A reader's line with the key that named the file in place of the file's name alone."""
    relative = "no such file" in line and not path.startswith(("/", "~"))
    more = f"; a relative path is looked for in {Path.cwd()}" if relative else ""
    return f"{key} = {path!r}{line.removeprefix(path)}{more}"


def _require_model(path: str) -> None:
    if is_local(path) and not (Path(expanded(path)) / "config.json").exists():
        raise UserError(f"{path}: no config.json there; give a model directory, a hub name or embedded")
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(expanded(path), trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: no model there ({first}); give a directory or a hub name") from None
