"""The problem sets of a study: what its model reads of them, and what they share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from study.files import NamedFile, StudyFiles, read_files
from study.mistakes import Mistakes
from study.spec import StudySpec
from trainer.config import DataConfig, TrainerConfig
from trainer.errors import UserError
from trainer.paths import expanded
from trainer.problems import EMBEDDED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Told(NamedTuple):
    """What there is to say of the files of a study, each in one line with its key."""

    mistakes: list[str]
    warnings: list[str]
    """What is allowed, and hardly meant."""


def told_of_files(configs: Sequence[TrainerConfig], spec: StudySpec, *, hub: bool) -> Told:
    """Read what the `configs` of a study name, as `read_files` does, and say what is wrong with it and what is odd."""
    files, mistakes = read_files(configs, spec=spec, hub=hub), Mistakes()
    warnings = [*_overlaps(files), *_too_few(files, configs)]
    for model in files.models:
        with mistakes:
            for refused, line in _told_by_tokenizer(model, files, configs):
                (mistakes.lines if refused else warnings).append(line)
    return Told(files.mistakes + mistakes.lines, warnings)


def _overlaps(files: StudyFiles) -> Iterator[str]:
    """The sets that share problems and should not. Embedded ones do not, unless the same is named twice."""
    texts = [(each, _texts(each)) for each in files.evaluation]
    for training in files.training:
        trained = _texts(training)
        for each, asked in texts:
            if shared := len(trained & asked):
                yield (
                    f"{each}: {shared} of its {len(asked)} problems are in {training} too, so its accuracy tells what"
                    " was learnt by heart; take them out of one of the two"
                )
    for (first, asked), (second, again) in itertools.combinations(texts, 2):
        if shared := len(asked & again):
            yield (
                f"{second}: {shared} of its {len(again)} problems are in {first} too, so neither set is an independent"
                " check of the other; take them out of one of the two"
            )


def _too_few(files: StudyFiles, configs: Sequence[TrainerConfig]) -> Iterator[str]:
    """Training sets that a single step goes through more than once."""
    most = max(each.rollout.prompts_per_step for each in configs)
    for each in files.training:
        if len(each.problems) < most:
            yield (
                f"{each}: has {len(each.problems)} problems, and a step samples rollout.prompts_per_step = {most}, some"
                " more than once; give more, or lower that"
            )


def _texts(named: NamedFile) -> set[str]:
    """Its problems by their text; spaces and line ends do not make another problem."""
    return {" ".join(each.prompt.split()) for each in named.problems}


def _told_by_tokenizer(
    model: NamedFile, files: StudyFiles, configs: Sequence[TrainerConfig]
) -> Iterator[tuple[bool, str]]:
    """The sets of which the tokenizer of `model` loses characters, and whether it does so in every prompt.

    Raises:
        UserError: `model` has no tokenizer, or none with the chat template that `data.chat` asks for.
    """
    own = model.path == "embedded"
    sets = [each for each in files.training + files.evaluation if not (own and each.path.startswith(EMBEDDED))]
    chats = any(each.data.chat for each in configs)
    if not sets and not chats:
        return  # the embedded model is made for the embedded sets, and a tokenizer takes a second to import
    from trainer.prompts import known_characters, lost_text, require_chat_template

    tokenizer = _tokenizer(model)
    if chats:
        require_chat_template(tokenizer)
    for template in dict.fromkeys(each.data.template for each in configs):
        for each in sets:
            if lost := lost_text(each.problems, tokenizer, DataConfig(template=template)):
                around = "" if template == "plain" else f", as data.template = {template!r} writes them"
                yield (
                    lost.all,
                    f"{each}: the tokenizer of {model} {lost}{around}; it knows {known_characters(tokenizer)};"
                    " choose another model, or write the problems with what it knows",
                )


def _tokenizer(model: NamedFile) -> PreTrainedTokenizerBase:
    """Raises UserError when there is none that knows text."""
    if model.path == "embedded":
        from trainer.tokenizer import character_tokenizer

        return character_tokenizer()
    from trainer.pretrained import load_tokenizer

    try:
        return load_tokenizer(expanded(model.path))
    except UserError as error:
        raise UserError(f"{model.key.removesuffix('model.path')}{error}") from None
