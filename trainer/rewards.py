"""Grading: is the last boxed answer of a response the right integer?"""

from __future__ import annotations

from dataclasses import dataclass

BOX = "\\boxed{"


@dataclass(frozen=True)
class Grade:
    """`prediction` is the answer as read from the response, None when there is none."""

    correct: bool
    prediction: str | None


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete \boxed{...}, braces balanced; None without one."""
    start = text.rfind(BOX)
    while start >= 0:
        depth = 1
        for position in range(start + len(BOX), len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[start + len(BOX) : position]
        start = text.rfind(BOX, 0, start)
    return None


def grade(response: str, answer: str) -> Grade:
    r"""Compare the last \boxed{} of `response` with the integer `answer`; leading zeros do not count ("025" is 25)."""
    content = last_boxed(response)
    if content is None:
        return Grade(False, None)
    content = content.strip()
    if content.isascii() and content.lstrip("-").isdigit() and len(content) < 100:
        content = str(int(content))
    return Grade(content == str(int(answer)), content)
