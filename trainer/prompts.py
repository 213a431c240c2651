"""From problems to the tokens that the policy is to continue."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from trainer.config import DataConfig, TrainerConfig
from trainer.errors import UserError
from trainer.problems import Problem

if TYPE_CHECKING:  # what a launch asks of this file needs no torch
    from transformers import PreTrainedTokenizerBase

    from trainer.policy import Policy

log = logging.getLogger(__name__)

TEMPLATES = {
    "plain": "{problem}",
    "boxed": "{problem}\n\nThink step by step and put the final answer in \\boxed{{}}.",
    "answer": "{problem}\n\nThink step by step. End with a line of the form 'Answer: ' followed by the answer alone.",
}
CHECKED = 100
"""Problems of a set that `lost_text` reads, and more only where not one of them survives."""
_FEW = 64
"""Characters that a message lists one by one."""


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, problem: Problem, config: DataConfig) -> tuple[int, ...]:
    """Token ids of the prompt for `problem`: the template, unless the row brought a whole prompt, then the chat format.

    Raises:
        UserError: `data.chat` with a tokenizer that has no chat template, or a prompt of no token at all.
    """
    text = _text(problem, config)
    if not config.chat:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        require_chat_template(tokenizer)
        messages = [{"role": "user", "content": text}]
        tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    if not tokens:
        raise UserError(
            f"problem {problem.prompt[:40]!r}: the tokenizer of model.path knows nothing of it, so the prompt is empty;"
            " choose another model, or other problems"
        )
    return tuple(tokens)


def require_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError where `data.chat` has nothing to go by."""
    if tokenizer.chat_template is None:
        raise UserError("data.chat = true: the tokenizer has no chat template; set data.chat to false")


def fitting(problems: Sequence[Problem], policy: Policy, config: TrainerConfig) -> list[Problem]:
    """Those whose prompt is at most `data.max_prompt_length` tokens; the others are counted in a log line.

    Another line says when prompt and response may be longer than the model was made for, which vLLM refuses.

    Raises:
        UserError: none is left.
    """
    limit, response = config.data.max_prompt_length, config.rollout.max_response_length
    lengths = [len(prompt_tokens(policy.tokenizer, each, config.data)) for each in problems]
    kept = [each for each, length in zip(problems, lengths, strict=True) if length <= limit]
    if not kept:
        raise UserError(
            f"data.max_prompt_length = {limit}: every one of the {len(problems)} prompts in {config.data.train} is"
            " longer; raise it"
        )
    if len(kept) < len(problems):
        log.warning(
            "%s: %d of %d prompts are longer than data.max_prompt_length = %d tokens and are left out",
            config.data.train, len(problems) - len(kept), len(problems), limit,
        )  # fmt: skip
    longest = max(length for length in lengths if length <= limit)
    allowed = getattr(policy.model.config, "max_position_embeddings", None)
    if allowed is not None and longest + response > allowed:
        log.warning(
            "rollout.max_response_length = %d: with the longest prompt, %d tokens, that is more than the %d positions"
            " of model.path; lower it, or raise max_position_embeddings in the model's config.json",
            response, longest, allowed,
        )  # fmt: skip
    return kept


class LostText(NamedTuple):
    """What the tokenizer cannot write of a set's prompts."""

    lost: int
    checked: int
    first: str
    """The first prompt that loses characters."""
    left: str
    """What the model reads of it."""

    @property
    def all(self) -> bool:
        """Whether no prompt of the set survives."""
        return self.lost == self.checked

    def __str__(self) -> str:
        return (
            f"loses characters in {self.lost} of {self.checked} prompts (the first is {self.first[:40]!r}, of which the"
            f" model reads {self.left[:40]!r})"
        )


def lost_text(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, config: DataConfig) -> LostText | None:
    """What the tokenizer loses of these prompts; None when all that was checked survive.

    Spaces, capitals and compatible forms of a character do not count, since some tokenizers change them.
    """
    checked = problems[:CHECKED]
    lost = [each for each in checked if _loses(tokenizer, each, config)]
    if len(lost) == len(checked):
        checked, lost = problems, [each for each in problems if _loses(tokenizer, each, config)]
    if not lost:
        return None
    text = _text(lost[0], config)
    return LostText(len(lost), len(checked), text, _round_trip(tokenizer, text))


def warn_of_lost_text(
    name: str, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, config: DataConfig
) -> None:
    """Log it when the tokenizer cannot write the prompts of `name`: what is then measured means little."""
    if found := lost_text(problems, tokenizer, config):
        log.warning("%s: the tokenizer of model.path %s; it is trained and scored on what is left", name, found)


def known_characters(tokenizer: PreTrainedTokenizerBase) -> str:
    """The characters that are tokens of their own, for a message; their number where they are many."""
    found = sorted(each for each in tokenizer.get_vocab() if len(each) == 1)
    return " ".join(found) if len(found) <= _FEW else f"{len(found)} characters"


def _loses(tokenizer: PreTrainedTokenizerBase, problem: Problem, config: DataConfig) -> bool:
    text = _text(problem, config)
    return _comparable(text) != _comparable(_round_trip(tokenizer, text))


def _text(problem: Problem, config: DataConfig) -> str:
    return problem.prompt if problem.whole else TEMPLATES[config.template].format(problem=problem.prompt)


def _round_trip(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    return tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])


def _comparable(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
