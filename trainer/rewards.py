r"""Grading: the last answer a response commits to, compared exactly when it is a number, by math-verify otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from trainer.math_grader import equivalent

LONGEST_ANSWER = 300
"""Characters; a longer "answer" is not one, and is wrong without being parsed."""

_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
# What may stand before it ends with its line: over lines, every empty one would look through all that follow.
_ANSWER_LINE = re.compile(r"(?im)^(?:[^\S\n]|[*#>])*(?:final\s+)?answer\s*(?::|is\b)[\s*:]*([^\n]+)")
_WRAPPERS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(-?\d+)\s*\}")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+|\d+/0*[1-9]\d*)")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:(?:,|\\,|\{,\})\d{3})+")


@dataclass(frozen=True)
class Grade:
    """`prediction` is the answer as read from the response, in normal form; None when there is none."""

    correct: bool
    prediction: str | None


def grade(response: str, answer: str) -> Grade:
    r"""Is the last answer in `response` equal to `answer`?

    The last complete \boxed{} counts, or without one the last line of the form "Answer: ...". Numbers are compared as
    exact fractions ("025", "25.0", "$25$", "50/2" and "\frac{50}{2}" are 25). Anything else goes to math-verify in a
    worker process that is killed at its time limit, so that no expression can hang or end training.
    """
    content = extract(response)
    if content is None:
        return Grade(False, None)
    if len(content) > LONGEST_ANSWER:
        return Grade(False, content[:LONGEST_ANSWER])
    prediction, target = normalise(content), normalise(answer)
    if prediction == target or not prediction:
        return Grade(prediction == target, prediction)
    if _is_number(prediction) and _is_number(target):
        return Grade(False, prediction)
    return Grade(equivalent(prediction, target), prediction)


def extract(response: str) -> str | None:
    """Text of the last committed answer, None without one. Linear in the length of the response."""
    open_braces: list[int | None] = []  # the start of a box's content, None for any other brace
    best: tuple[int, int] | None = None
    for match in _BRACES.finditer(response):
        symbol = match.group()
        if symbol == "{":
            open_braces.append(None)
        elif symbol.startswith("\\boxed"):
            open_braces.append(match.end())
        elif symbol == "}" and open_braces:
            start = open_braces.pop()
            # A box inside a box opens later: the innermost is the answer.
            if start is not None and (best is None or start > best[0]):
                best = (start, match.start())
    if best is not None:
        return response[best[0] : best[1]]
    lines = _ANSWER_LINE.findall(response)
    return lines[-1] if lines else None


def normalise(text: str) -> str:
    """Normal form of an answer: numbers as "25" or "1/3", other text without dollar signs, wrappers and outer space."""
    text = text.strip().strip("$*").replace("\\(", "").replace("\\)", "").replace("\\!", "").strip()
    text = _WRAPPERS.sub(r"\1", text).replace("\\left", "").replace("\\right", "").strip()
    text = text.rstrip(".,;").strip().strip("$").strip()
    if _THOUSANDS.fullmatch(text):
        text = re.sub(r"\\,|[,{}]", "", text)
    fraction = _FRACTION.fullmatch(text)
    if fraction and int(fraction[3]) != 0:
        value = Fraction(int(fraction[2]), int(fraction[3])) * (-1 if fraction[1] else 1)
        return str(value)
    if len(text) <= LONGEST_ANSWER and text.isascii() and _NUMBER.fullmatch(text):
        return str(Fraction(text))
    return text


def _is_number(normal: str) -> bool:
    return re.fullmatch(r"-?\d+(/\d+)?", normal) is not None
