"""Every schema that people publish AIME and DAPO data in is read; anything else is refused with the mend."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import polars
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainer.config import DataConfig, ModelConfig
from trainer.data import fitting, load_problems, prompt_tokens, require_integers
from trainer.errors import UserError
from trainer.policy import Policy, load_policy
from trainer.problems import Problem

SHARED = Path(__file__).parents[3] / "shared" / "aime"


@pytest.fixture(scope="module")
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


def verl_row(text: str, answer: str) -> dict:
    return {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": text}],
        "reward_model": {"ground_truth": answer, "style": "rule"},
    }


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "1+1=", "answer": "2"},
        {"Problem": "1+1=", "Answer": 2},
        {"ID": "2024-I-1", "Problem": "1+1=", "Solution": "two", "Answer": 2},
        {"question": "1+1=", "answer": "2"},
        {"QUESTION": "1+1=", "ground_truth": "2"},
        {"prompt": "1+1=", "answer": "2"},
        verl_row("1+1=", "2"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_known_schemas_in_every_kind_of_file(row: dict, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    frame = polars.DataFrame([row])
    nested = any(isinstance(value, (list, dict)) for value in row.values())
    if suffix == ".csv" and nested:
        return  # CSV has no nested columns
    {".jsonl": frame.write_ndjson, ".json": frame.write_json, ".csv": frame.write_csv,
     ".parquet": frame.write_parquet}[suffix](path)  # fmt: skip
    assert load_problems(str(path)) == [Problem("1+1=", "2", whole=nested)]


def test_repeats_count_once_and_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "aime.parquet"
    rows = [verl_row(f"{i}+1=", str(i + 1)) for i in range(30)] * 32
    polars.DataFrame(rows).write_parquet(path)
    with caplog.at_level(logging.WARNING):
        problems = load_problems(str(path))
    assert [each.prompt for each in problems] == [f"{i}+1=" for i in range(30)]
    assert "960 rows are 30 distinct problems" in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"text": "1+1=", "answer": "2"}', "row 1: no problem text; its columns are text, answer"),
        ('{"problem": "1+1="}', "row 1: no answer; its columns are problem"),
        ('{"problem": "1+1=", "answer": null}', "row 1: no answer"),
        ("", "holds no rows|cannot be read"),
        ("not json", "cannot be read"),
    ],
)
def test_other_schemas_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        load_problems(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere.jsonl", "./nowhere", "embedded:test", "a/b/c"])
def test_a_path_to_nothing_is_refused(path: str) -> None:
    with pytest.raises(UserError, match="no such"):
        load_problems(path)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_text("")
    with pytest.raises(UserError, match=r"unknown kind of file; allowed: \.jsonl, \.json, \.csv, \.parquet"):
        load_problems(str(tmp_path / "data.xlsx"))


@pytest.mark.parametrize("answer", ["1000", "-1", "x", "1/2"])
def test_an_aime_answer_is_an_integer_from_0_to_999(answer: str) -> None:
    require_integers([Problem("p", "025"), Problem("p", "0"), Problem("p", "999")], name="aime_2024", path="f")
    with pytest.raises(UserError, match=rf"problem 2 of set aime_2024 has the answer '{answer}'"):
        require_integers([Problem("p", "1"), Problem("p", answer)], name="aime_2024", path="f.jsonl")


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
    policy.tokenizer.chat_template = "{% for m in messages %}={{ m.content }}={% endfor %}"
    try:
        tokens = prompt_tokens(policy.tokenizer, Problem("1+1", "2"), DataConfig(chat=True))
    finally:
        policy.tokenizer.chat_template = None
    assert tokens == tuple(policy.tokenizer("=1+1=")["input_ids"])


def test_prompts_that_are_too_long_are_left_out_and_counted(policy: Policy, caplog: pytest.LogCaptureFixture) -> None:
    problems = [Problem("1+1=", "2"), Problem("11+11+11=", "33")]
    with caplog.at_level(logging.WARNING):
        kept = fitting(problems, policy.tokenizer, DataConfig(max_prompt_length=5))
    assert kept == problems[:1]
    assert "1 of 2 prompts are longer than data.max_prompt_length = 5" in caplog.text
    with pytest.raises(UserError, match="every one of the 2 prompts"):
        fitting(problems, policy.tokenizer, DataConfig(max_prompt_length=2))


@pytest.mark.parametrize("name", ["aime_2024.jsonl", "aime_2025.jsonl", "aime-2024.verl.parquet"])
def test_the_real_aime_files_are_thirty_integer_problems(name: str, tmp_path: Path) -> None:
    path = SHARED / name
    if not path.exists():  # the texts are not the project's to carry; a checkout may lack them
        path = tmp_path / "aime.jsonl"
        path.write_text("".join(json.dumps({"problem": f"p{i}", "answer": f"{i:03d}"}) + "\n" for i in range(30)))
    problems = load_problems(str(path))
    assert len(problems) == 30
    require_integers(problems, name="aime", path=name)
