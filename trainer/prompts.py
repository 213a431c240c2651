"""From problems to the tokens that the policy is to continue."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from trainer.config import DataConfig, TrainerConfig
from trainer.errors import UserError
from trainer.policy import Policy
from trainer.problems import Problem

log = logging.getLogger(__name__)

TEMPLATES = {
    "plain": "{problem}",
    "boxed": "{problem}\n\nThink step by step and put the final answer in \\boxed{{}}.",
    "answer": "{problem}\n\nThink step by step. End with a line of the form 'Answer: ' followed by the answer alone.",
}
CHECKED = 100
"""Problems of a set that `warn_of_lost_text` reads."""


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, problem: Problem, config: DataConfig) -> tuple[int, ...]:
    """Token ids of the prompt for `problem`: the template, unless the row brought a whole prompt, then the chat format.

    Raises:
        UserError: `data.chat` with a tokenizer that has no chat template, or a prompt of no token at all.
    """
    text = _text(problem, config)
    if not config.chat:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    elif tokenizer.chat_template is None:
        raise UserError("data.chat = true: the tokenizer has no chat template; set data.chat to false")
    else:
        messages = [{"role": "user", "content": text}]
        tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    if not tokens:
        raise UserError(
            f"problem {problem.prompt[:40]!r}: the tokenizer of model.path knows nothing of it, so the prompt is empty;"
            " choose another model, or other problems"
        )
    return tuple(tokens)


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


def warn_of_lost_text(
    name: str, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, config: DataConfig
) -> None:
    """Say so in a log line when the tokenizer cannot write the prompts of `name`: what is then measured means little.

    Spaces do not count, since some tokenizers change them.
    """
    checked = problems[:CHECKED]
    lost = [each for each in checked if _without_spaces(_text(each, config)) != _round_trip(tokenizer, each, config)]
    if lost:
        log.warning(
            "%s: the tokenizer of model.path loses characters in %d of %d prompts (the first is %.40r); the model is"
            " not shown these problems",
            name, len(lost), len(checked), _text(lost[0], config),
        )  # fmt: skip


def _text(problem: Problem, config: DataConfig) -> str:
    return problem.prompt if problem.whole else TEMPLATES[config.template].format(problem=problem.prompt)


def _round_trip(tokenizer: PreTrainedTokenizerBase, problem: Problem, config: DataConfig) -> str:
    return _without_spaces(tokenizer.decode(tokenizer(_text(problem, config), add_special_tokens=False)["input_ids"]))


def _without_spaces(text: str) -> str:
    return "".join(text.split())
