"""Grading of boxed integers."""

from __future__ import annotations

import pytest

from trainer.rewards import grade


@pytest.mark.parametrize(
    ("response", "answer", "correct", "prediction"),
    [
        (r"12+13=25 \boxed{25}", "25", True, "25"),
        (r"\boxed{025}", "25", True, "25"),
        (r"\boxed{25}", "025", True, "25"),
        (r"\boxed{24} no, \boxed{25}", "25", True, "25"),
        (r"\boxed{25} no, \boxed{24}", "25", False, "24"),
        (r"\boxed{25", "25", False, None),
        (r"\boxed{24} then \boxed{25", "25", False, "24"),
        ("25", "25", False, None),
        (r"\boxed{}", "0", False, ""),
        (r"\boxed{{25}}", "25", False, "{25}"),
        (r"\boxed{" + "9" * 100_000 + "}", "25", False, "9" * 100_000),
    ],
)
def test_the_last_complete_box_decides(response: str, answer: str, correct: bool, prediction: str | None) -> None:
    graded = grade(response, answer)
    assert (graded.correct, graded.prediction) == (correct, prediction)
