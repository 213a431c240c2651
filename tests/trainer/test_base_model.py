"""The embedded base model: how its answers are written, what the made model does, and how the cache keeps it."""

from __future__ import annotations

import functools
import json
import random
import re
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import forked
from trainer import base_training
from trainer.base_model import ensure_base_model
from trainer.base_training import MIN_WORKED, SAMPLED_RANGE, measure
from trainer.errors import UserError
from trainer.problems import embedded_problems, random_sum, sum_prompt
from trainer.tokenizer import BOX, DIGITS, character_tokenizer
from trainer.worked_sums import GUESS_RATE, habitual_answer, worked_sum

SUMS = st.lists(st.integers(10, 99), min_size=3, max_size=6).map(tuple)

# A base of a few steps: what the cache does is the same, and it takes a second. Run as a program by the tests below.
BRIEF = """
import functools
from pathlib import Path
from trainer import base_model, base_training
base_training.measure = functools.partial(base_training.measure, sums=4)
base_training.MAX_HOLD, base_training.WORK_DECAY, base_training.HABIT_STEPS = int(arguments[1]), 1, 1
base_training.MIN_WORKED, base_training.SAMPLED_RANGE = 0.0, (0.0, 1.0)
reports = []
try:
    print(base_model.ensure_base_model(lambda fraction, text: reports.append(text), cache=Path(arguments[0])))
except base_model.UserError as error:
    sys.exit(f"UserError: {error}")
print("made" if any("working sums out" in each for each in reports) else "found")
"""


def brief(cache: Path, output: Path, *, steps: int = 2, before: str = "") -> ForkServerProcess:
    return forked.start(before + BRIEF, cache, steps, output=output)


@pytest.fixture
def brief_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of training, a brief check, and no bounds."""
    monkeypatch.setattr(base_training, "measure", functools.partial(measure, sums=4))
    for steps in ("MAX_HOLD", "WORK_DECAY", "HABIT_STEPS"):
        monkeypatch.setattr(base_training, steps, 1)
    monkeypatch.setattr(base_training, "MIN_WORKED", 0.0)
    monkeypatch.setattr(base_training, "SAMPLED_RANGE", (0.0, 1.0))


@given(SUMS)
def test_every_total_of_worked_sum_adds_its_digit_and_the_answer_is_the_sum(numbers: tuple[int, ...]) -> None:
    units, tens, box = worked_sum(numbers).split(";")
    total = 0
    for number, (digit, written) in zip(numbers, re.findall(r"\+(\d)=(\d\d)", units), strict=True):
        assert int(digit) == number % 10
        total += int(digit)
        assert int(written) == total
    last_unit, total = total % 10, total // 10
    for number, (digit, written) in zip(numbers, re.findall(r"\+(\d)=(\d\d)", tens), strict=True):
        assert int(digit) == number // 10
        total += int(digit)
        assert int(written) == total
    assert box == f"\\boxed{{{10 * total + last_unit}}}"
    assert 10 * total + last_unit == sum(numbers)


def test_habits_are_guesses_unfinished_work_and_worked_sums() -> None:
    generator = random.Random(0)
    sums = [random_sum(generator) for _ in range(4000)]
    answers = [habitual_answer(numbers, generator) for numbers in sums]
    for count, rate in GUESS_RATE.items():
        guesses = [
            text.startswith("\\boxed") for text, numbers in zip(answers, sums, strict=True) if len(numbers) == count
        ]
        assert abs(sum(guesses) / len(guesses) - rate) < 4 * (rate * (1 - rate) / len(guesses)) ** 0.5
    worked = [text == worked_sum(numbers) for text, numbers in zip(answers, sums, strict=True)]
    assert 0.2 < sum(worked) / len(worked) < 0.35
    unfinished = [text for text in answers if "boxed" not in text]
    assert unfinished
    for text, numbers in zip(answers, sums, strict=True):
        assert "boxed" in text or (worked_sum(numbers).startswith(text) and text)


@given(SUMS, st.randoms(use_true_random=False))
def test_answers_survive_the_tokenizer_and_fit_the_default_response_length(
    numbers: tuple[int, ...], generator: random.Random
) -> None:
    tokenizer = character_tokenizer()
    for answer in (worked_sum(numbers), habitual_answer(numbers, generator)):
        prompt_tokens, tokens = tokenizer.encode(sum_prompt(numbers)), tokenizer.encode(answer)
        assert tokenizer.decode(tokens) == answer
        assert len(tokens) < 64
        # The policy samples after the prompt's tokens, so prompt and answer must not merge where they meet.
        assert tokenizer.encode(sum_prompt(numbers) + answer) == prompt_tokens + tokens


@given(st.lists(st.sampled_from([*DIGITS, *"+=;}", BOX, "+3="])).map("".join))
def test_text_of_known_characters_survives_encode_and_decode(text: str) -> None:
    tokenizer = character_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_other_characters_do_not_survive_the_round_trip() -> None:
    """Whoever takes prompts from a user can tell so that this is not a model for them."""
    tokenizer = character_tokenizer()
    assert tokenizer.decode(tokenizer.encode("What is 47+38?")) == "47+38"


def test_auto_tokenizer_gives_the_very_same_tokenizer(tmp_path: Path, brief_recipe: None) -> None:
    """AutoTokenizer takes another class for some model types, and with it another splitting and decoding."""
    loaded = AutoTokenizer.from_pretrained(ensure_base_model(cache=tmp_path), trust_remote_code=False)
    made = character_tokenizer()
    assert loaded.backend_tokenizer.to_str() == made.backend_tokenizer.to_str()
    assert (loaded.eos_token_id, loaded.pad_token_id) == (made.eos_token_id, made.pad_token_id)
    assert loaded.padding_side == "left"


def test_a_second_call_finds_what_the_first_made(tmp_path: Path, brief_recipe: None) -> None:
    reports: list[tuple[float, str]] = []
    directory = ensure_base_model(lambda fraction, text: reports.append((fraction, text)), cache=tmp_path)
    assert [fraction for fraction, _ in reports] == sorted(fraction for fraction, _ in reports)
    assert reports[-1][0] == 1.0
    weights = (directory / "model.safetensors").stat()
    reports.clear()
    assert ensure_base_model(lambda fraction, text: reports.append((fraction, text)), cache=tmp_path) == directory
    assert not reports
    assert (directory / "model.safetensors").stat() == weights


def test_looking_for_it_imports_no_torch() -> None:
    """A launch only has to know that it is there; torch and transformers take seconds."""
    code = "import sys, trainer.base_model; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_making_it_leaves_the_callers_threads_and_random_state(tmp_path: Path, brief_recipe: None) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    ensure_base_model(cache=tmp_path)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, brief_recipe: None) -> None:
    torch.manual_seed(1)
    first = ensure_base_model(cache=tmp_path / "a")
    torch.manual_seed(2)
    second = ensure_base_model(cache=tmp_path / "b")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "complete.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, brief_recipe: None, name: str, damage: str) -> None:
    directory = ensure_base_model(cache=tmp_path)
    whole = (directory / name).read_bytes()
    if damage == "cut":
        (directory / name).write_bytes(whole[: len(whole) // 2])
    else:
        (directory / name).unlink()
    assert ensure_base_model(cache=tmp_path) == directory
    assert (directory / name).read_bytes() == whole


def test_a_base_out_of_bounds_is_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_training, "measure", functools.partial(measure, sums=4))
    for steps in ("MAX_HOLD", "WORK_DECAY", "HABIT_STEPS"):
        monkeypatch.setattr(base_training, steps, 1)
    with pytest.raises(UserError, match=r"every seed of \(0, 1, 2\); the last one worked 0\.00 of the sums out"):
        ensure_base_model(cache=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    tmp_path: Path, brief_recipe: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("FIPO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"file/cache: .*cannot be kept here.*FIPO_CACHE"):
        ensure_base_model()


def test_a_full_disk_is_one_line_and_leaves_no_half_model(tmp_path: Path) -> None:
    """A limit on the size of a file fails the writing of the weights just as a full disk does."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    process = brief(tmp_path / "cache", tmp_path / "log", before=limit)
    process.join(120)
    assert process.exitcode == 1
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith(f"UserError: {tmp_path / 'cache'}: the embedded base model cannot be kept here")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    logs = [tmp_path / "first", tmp_path / "second"]
    processes = [brief(tmp_path / "cache", log, steps=20) for log in logs]
    for process in processes:
        process.join(120)
    assert sorted(log.read_text().split()[-1] for log in logs) == ["found", "made"]


def test_a_process_killed_while_making_it_does_no_harm(tmp_path: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    killed = brief(cache, tmp_path / "killed", steps=10_000)
    while not list(cache.glob("*.partial")):
        assert killed.is_alive(), (tmp_path / "killed").read_text()
        time.sleep(0.05)
    killed.kill()
    killed.join()
    forked.finish(brief(cache, log), output=log)
    assert log.read_text().split()[-1:] == ["made"]
    assert not list(cache.glob("*.partial"))


@pytest.fixture(scope="module")
def base() -> Path:
    """The real one, from the user's cache or made now."""
    return ensure_base_model()


@pytest.mark.slow
def test_transformers_loads_the_base_without_custom_code(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    assert model.config.model_type == "qwen2"
    assert 150_000 < model.num_parameters() < 250_000
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.slow
def test_the_base_can_work_sums_out_but_seldom_does(base: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)
        measured = measure(model, tokenizer)
    assert measured["worked"] >= MIN_WORKED
    assert SAMPLED_RANGE[0] <= measured["sampled"] <= SAMPLED_RANGE[1]
    assert json.loads((base / "complete.json").read_text())["measured"]["worked"] == pytest.approx(measured["worked"])


@pytest.mark.slow
def test_long_answers_of_the_base_are_right_more_often_on_the_selection_set(base: Path) -> None:
    """The relation that reinforcement learning has to find."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    problems = embedded_problems("embedded:select") * 8
    inputs = tokenizer([each.prompt for each in problems], return_tensors="pt", padding=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokens = model.generate(
            inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True, top_p=0.7, max_new_tokens=64
        )[:, inputs["input_ids"].shape[1] :]
    lengths = (tokens != tokenizer.pad_token_id).sum(1).tolist()
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    right = [text.endswith(f"\\boxed{{{each.answer}}}") for text, each in zip(texts, problems, strict=True)]
    short = [ok for ok, length in zip(right, lengths, strict=True) if length <= 6]
    long = [ok for ok, length in zip(right, lengths, strict=True) if length > 24]
    assert len(short) > 50
    assert len(long) > 30
    assert sum(short) / len(short) < 0.15
    assert sum(long) / len(long) > 0.7
