"""Grading: every way to write the right integer is right, nothing else is, and nothing hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import math_grader
from trainer.math_grader import MathWorker
from trainer.rewards import extract, grade, normalise


@pytest.mark.parametrize(
    "response",
    [
        r"12+13=25 \boxed{25}", r"\boxed{025}", r"\boxed{25.}", r"\boxed{25.0}", r"\boxed{$25$}", r"\boxed{ 25 }",
        r"\boxed{\frac{50}{2}}", r"\boxed{\dfrac{50}{2}}", r"$\boxed{25}$.", r"\boxed{\text{25}}", "Answer: 25",
        "**Answer:** 25", "Answer: $25$.", "answer is 25", "some text\nAnswer: 24\nAnswer: 25\n", r"\boxed{\boxed{25}}",
        r"\boxed{24} no, \boxed{25}", r"\boxed {25}",
        r"\boxed{+25}", r"\boxed{50/2}", r"\boxed{025/01}", r"a set \{ and \boxed{25}", r"\boxed{\mathrm{25}}",
        r"Answer: \boxed{25}", r"Answer: 7 \boxed{25}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("answer", ["25", "025"])
def test_right(response: str, answer: str) -> None:
    graded = grade(response, answer)
    assert graded.correct
    assert graded.prediction == "25"


@pytest.mark.parametrize(
    ("response", "prediction"),
    [
        (r"\boxed{25} no, \boxed{24}", "24"),
        ("25", None),
        ("", None),
        (r"so it is \boxed{25", None),
        ("so the answer to the thing we are looking fo", None),
        (r"\boxed{}", ""),
        (r"\boxed{25.5}", "51/2"),
        (r"\boxed{25/2}", "25/2"),
        (r"\boxed{25/0}", "25/0"),
        (r"\boxed{-25}", "-25"),
        (r"\boxed{-\frac{50}{4}}", "-25/2"),
        (r"\boxed{\frac{-50}{4}}", "-25/2"),
        (r"\boxed{24,}", "24"),
        (r"\boxed{24;}", "24"),
        (r"\boxed{250}", "250"),
        (r"\boxed{2 5}", "2 5"),
        (r"\boxed{\frac{50}{0}}", r"\frac{50}{0}"),
    ],
)
def test_wrong(response: str, prediction: str | None) -> None:
    graded = grade(response, "25")
    assert not graded.correct
    assert graded.prediction == prediction


def test_large_numbers_may_have_thousands_separators() -> None:
    for text in (r"\boxed{1,234}", r"\boxed{1{,}234}", r"\boxed{1\,234}", r"\boxed{1234}"):
        assert grade(text, "1234").correct
    assert not grade(r"\boxed{1,2}", "12").correct  # a pair, not a number


@pytest.mark.parametrize(
    ("prediction", "answer", "correct"),
    [(r"\sqrt{625}", "25", True), ("1+x", "x+1", True), (r"\frac{1}{2}", "0.5", True), ("x+2", "x+1", False),
     ("(1,2)", "1<x<2", True), ("1<x<2", "(1,2)", False)],  # math-verify asks more of an answer that is a pair
)  # fmt: skip
def test_expressions_are_compared_by_math_verify(prediction: str, answer: str, correct: bool) -> None:
    assert grade(rf"\boxed{{{prediction}}}", answer).correct is correct


@pytest.mark.parametrize(
    "content",
    ["9^{9^{9^9}}", "{" * 100_000 + "}" * 100_000, "\\frac{" * 40 + "1" + "}{1}" * 40, "\x00", "9" * 100_000,
     "\\int" * 60, "10^{10^{10}}!", "\\boxed{" * 1000],
    ids=["tower", "nested braces", "nested fractions", "NUL", "digits", "integrals", "factorial", "boxes"],
)  # fmt: skip
def test_hostile_answers_are_wrong_and_the_next_one_is_graded(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is shortened, and so is the test; an expression costs all of it at most, since its worker is killed."""
    monkeypatch.setattr(math_grader._worker, "time_limit", 2.0)
    assert not grade(rf"\boxed{{{content}}}", "25").correct
    assert grade(r"\boxed{\sqrt{625}}", "25").correct


def test_a_number_of_any_length_in_a_data_set_is_compared_as_text() -> None:
    assert grade(r"\boxed{25}", "9" * 10_000).correct is False


@pytest.mark.parametrize(
    "repeated",
    ["\\boxed{", "\n", " ", "*", "\n# ", "answer ", "\nanswer", "\nfinal ", "\nanswer:", "\\boxed "],
    ids=repr,
)
def test_a_hundred_thousand_repetitions_take_linear_time(repeated: str) -> None:
    """The square of their number would be hours."""
    assert extract(repeated * 100_000) in (None, "answer:")


def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    worker = MathWorker(time_limit=0.5)
    try:
        assert worker.equivalent(r"\sqrt{4}", "2")
        first = worker.process
        os.kill(first.pid, signal.SIGSTOP)  # a worker that answers nothing, for certain
        assert not worker.equivalent(r"\sqrt{4}", "2")
        assert first.poll() == -signal.SIGKILL
        assert worker.equivalent(r"\sqrt{4}", "2")
    finally:
        worker.close()


def test_modules_in_the_working_directory_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("trainer", "math_verify"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    worker = MathWorker()
    try:
        assert worker.equivalent(r"\sqrt{4}", "2")
    finally:
        worker.close()


@given(st.integers(-(10**6), 10**6))
def test_any_integer_is_its_own_normal_form(value: int) -> None:
    assert normalise(str(value)) == str(value)
    assert normalise(f"${value:,}$") == str(value)


@given(st.text(max_size=200), st.integers(0, 999))
def test_no_text_breaks_the_extraction(text: str, answer: int) -> None:
    content = extract(text + rf" \boxed{{{answer}}}")
    assert content == str(answer) or "\\" in text or "{" in text
