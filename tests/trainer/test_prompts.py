"""Prompts are what the template and the chat format make of a problem; what they lose is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from trainer.config import DataConfig, ModelConfig, TrainerConfig
from trainer.errors import UserError
from trainer.policy import Policy, load_policy
from trainer.problems import Problem
from trainer.prompts import CHECKED, fitting, known_characters, lost_text, prompt_tokens, warn_of_lost_text
from trainer.tokenizer import character_tokenizer


@pytest.fixture(scope="module")
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


@pytest.fixture(scope="module")
def letters() -> PreTrainedTokenizerFast:
    """A tokenizer that knows every byte, so that a template's words are not lost."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_template_goes_around_a_problem_but_not_around_a_whole_prompt(letters: PreTrainedTokenizerFast) -> None:
    def text(problem: Problem, template: str) -> str:
        return letters.decode(prompt_tokens(letters, problem, DataConfig(template=template)))

    assert text(Problem("1+1=", "2"), "plain") == "1+1="
    assert text(Problem("1+1=", "2"), "boxed").startswith("1+1=") and "\\boxed{}" in text(Problem("", "2"), "boxed")
    assert "Answer: " in text(Problem("1+1=", "2"), "answer")
    for template in ("plain", "boxed", "answer"):
        assert text(Problem("1+1=", "2", whole=True), template) == "1+1="


def test_the_chat_format_is_the_tokenizers(policy: Policy) -> None:
    with pytest.raises(UserError, match=r"data\.chat = true: the tokenizer has no chat template"):
        prompt_tokens(policy.tokenizer, Problem("1+1=", "2"), DataConfig(chat=True))
    policy.tokenizer.chat_template = (
        "{% for m in messages %}={{ m.content }}={% endfor %}{% if add_generation_prompt %}+{% endif %}"
    )
    try:
        tokens = prompt_tokens(policy.tokenizer, Problem("1+1", "2"), DataConfig(chat=True))
    finally:
        policy.tokenizer.chat_template = None
    assert tokens == tuple(policy.tokenizer("=1+1=+")["input_ids"])


def test_without_the_chat_format_a_prompt_has_no_token_that_is_not_of_its_text(
    letters: PreTrainedTokenizerFast,
) -> None:
    """A tokenizer that begins every text with a token of its own."""
    begins = Tokenizer.from_str(letters.backend_tokenizer.to_str())
    begins.post_processor = processors.TemplateProcessing(single="! $A", special_tokens=[("!", 0)])
    own, problem = PreTrainedTokenizerFast(tokenizer_object=begins), Problem("1+1=", "2")
    assert len(own(problem.prompt)["input_ids"]) == 5
    assert prompt_tokens(own, problem, DataConfig()) == prompt_tokens(letters, problem, DataConfig())


def test_prompts_that_are_too_long_are_left_out_and_counted(policy: Policy, caplog: pytest.LogCaptureFixture) -> None:
    problems = [Problem("1+1=", "2"), Problem("11+1=", "12")]
    with caplog.at_level(logging.WARNING):
        kept = fitting(problems, policy, TrainerConfig(data=DataConfig(max_prompt_length=4)))
    assert kept == problems[:1]
    assert "1 of 2 prompts are longer than data.max_prompt_length = 4" in caplog.text
    with pytest.raises(UserError, match="every one of the 2 prompts"):
        fitting(problems, policy, TrainerConfig(data=DataConfig(max_prompt_length=2)))


def test_text_that_the_tokenizer_loses_is_said(
    letters: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    problems = [Problem("12+3=", "15"), Problem("Find 12 + 3.", "15")]
    with caplog.at_level(logging.WARNING):
        warn_of_lost_text("aime", problems, letters, DataConfig(template="boxed"))
        warn_of_lost_text("sums", problems[:1], character_tokenizer(), DataConfig())
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        warn_of_lost_text("aime", problems, character_tokenizer(), DataConfig())
    assert "aime: the tokenizer of model.path loses characters in 1 of 2 prompts (the first is 'Find 12" in caplog.text
    assert "of which the model reads '12+3'); it is trained and scored on what is left" in caplog.text


def test_only_a_set_of_which_no_prompt_survives_is_lost_as_a_whole(letters: PreTrainedTokenizerFast) -> None:
    words = [Problem(f"Find {number}.", "1") for number in range(CHECKED + 5)]
    whole = lost_text(words, character_tokenizer(), DataConfig())
    assert whole.all and (whole.lost, whole.left) == (CHECKED + 5, "0")
    for problems, lost, checked in (
        ([*words, Problem("1+1=", "2")], CHECKED + 5, CHECKED + 6),  # after those that are read at first
        ([Problem("1+1=", "2"), *words], CHECKED - 1, CHECKED),
    ):
        part = lost_text(problems, character_tokenizer(), DataConfig())
        assert not part.all and (part.lost, part.checked) == (lost, checked)
    assert lost_text(words, letters, DataConfig()) is None


def test_a_tokenizer_that_only_changes_capitals_loses_nothing(letters: PreTrainedTokenizerFast) -> None:
    lower = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(letters.backend_tokenizer.to_str()))
    lower.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    assert lower.decode(lower("Find \uff11.")["input_ids"]) == "find 1."
    assert lost_text([Problem("Find \uff11.", "1")], lower, DataConfig()) is None


def test_the_characters_of_a_tokenizer_are_listed_where_they_are_few(letters: PreTrainedTokenizerFast) -> None:
    assert known_characters(character_tokenizer()) == "+ 0 1 2 3 4 5 6 7 8 9 ; = }"
    assert known_characters(letters) == "256 characters"


def test_a_prompt_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(UserError, match=r"problem 'Find x\.': the tokenizer .* so the prompt is empty"):
        prompt_tokens(character_tokenizer(), Problem("Find x.", "15"), DataConfig())


def test_responses_beyond_the_positions_of_the_model_are_said(policy: Policy, caplog: pytest.LogCaptureFixture) -> None:
    problems = [Problem("1+1=", "2"), Problem("11+11=", "22")]
    for length in (250, 251):  # of 256 positions
        with caplog.at_level(logging.WARNING):
            fitting(problems, policy, TrainerConfig.model_validate({"rollout": {"max_response_length": length}}))
        assert bool(caplog.text) == (length == 251)
    assert "max_response_length = 251: with the longest prompt, 6 tokens, that is more than the 256" in caplog.text
