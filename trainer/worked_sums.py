"""Answers to the embedded sums as the base model is taught them: worked out, left unfinished, or guessed."""

from __future__ import annotations

import random

from trainer.tokenizer import BOX

GUESS_RATE = {3: 0.45, 4: 0.53, 5: 0.58, 6: 0.62}
"""How often the base only guesses, by the count of numbers. Below 0.7, or top-p 0.7 would leave nothing but guesses."""


def worked_sum(numbers: tuple[int, ...]) -> str:
    r"""The sum worked out by columns, as at school: running totals of the units, then of the tens with the carry.

    47+38+59 gives `+7=07+8=15+9=24;+4=06+3=09+5=14;\boxed{144}`: the carry 2 goes into the tens, and the answer is the
    last total of the tens with the last digit of the units.
    """
    units, carried = _running_totals([number % 10 for number in numbers], 0)
    tens, _ = _running_totals([number // 10 for number in numbers], carried // 10)
    return f"{units};{tens};{boxed(sum(numbers))}"


def _running_totals(digits: list[int], total: int) -> tuple[str, int]:
    text = ""
    for digit in digits:
        total += digit
        text += f"+{digit}={total:02d}"
    return text, total


def habitual_answer(numbers: tuple[int, ...], generator: random.Random) -> str:
    """What the base does with a sum: guesses (short, mostly wrong), leaves work unfinished, or works it out."""
    guess = boxed(min(999, max(0, sum(numbers) + generator.randint(-20, 20))))
    if generator.random() < GUESS_RATE[len(numbers)]:
        return guess
    worked, choice = worked_sum(numbers), generator.random()
    if choice < 0.3:  # the units are done and the rest is guessed
        return worked[: worked.index(";") + 1] + guess
    if choice < 0.4:  # given up after some total
        totals = worked.split("+")
        return "+".join(totals[: generator.randint(2, len(totals) - 1)])
    return worked


def boxed(answer: int) -> str:
    r"""`\boxed{144}`, as the grader wants it."""
    return f"{BOX}{answer}}}"
