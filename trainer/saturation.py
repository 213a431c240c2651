"""What is known of an accuracy whose responses show no spread: every problem was solved always or never.

Its estimated error is 0, for want of evidence and not of noise. What can be said is a bound. Pure functions.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from trainer.digits import decimal

TAIL = 0.025
"""Of each side: the interval holds the accuracy in at least 95 of 100 studies."""


def interval(accuracy: float, *, problems: int, samples: int) -> tuple[float, float]:
    """95 % bounds of an accuracy over `problems`, each solved in all of `samples` responses or in none.

    Exact for a count of 0 or all (Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404), for the problems
    that were solved and for the others. They need not be equally hard: of all chances with one mean, equal ones are the
    likeliest to show no miss. With `samples` 1 it is the bound over other problems of the kind.
    """
    solved = round(accuracy * problems)
    missed = problems - solved
    low = solved / problems * TAIL ** (1 / (solved * samples)) if solved else 0.0
    high = 1 - missed / problems * TAIL ** (1 / (missed * samples)) if missed else 1.0
    return low, high


def in_words(accuracy: float, *, problems: int, samples: int) -> str:
    """The interval in per cent: ≥ 98.5 %, ≤ 1.5 %, 95.2 to 98.2 %."""
    low, high = interval(accuracy, problems=problems, samples=samples)
    if high == 1:
        return f"≥ {100 * low:.1f} %"
    return f"≤ {100 * high:.1f} %" if low == 0 else f"{100 * low:.1f} to {100 * high:.1f} %"


class Score(Protocol):
    """What is read of a `trainer.records.SetScore`, which prints itself with this."""

    @property
    def accuracy(self) -> float: ...

    @property
    def samples(self) -> int: ...

    @property
    def solved(self) -> tuple[int, ...]: ...

    @property
    def sampling_error(self) -> float | None: ...

    @property
    def problem_error(self) -> float | None: ...


class Error(NamedTuple):
    """What is known of one error of an accuracy, as text."""

    name: str
    """sampling or problems."""
    text: str
    """Its standard error with ±, or where that is 0 for want of spread the 95 % bound of the accuracy."""
    bounds: tuple[float, float] | None = None
    """The interval instead of an error."""


def errors(score: Score, *, digits: int = 3) -> list[Error]:
    """The errors of avg@k in the order sampling, problems, without those that one sample or one problem cannot tell."""
    found = []
    for name, error, samples in (
        ("sampling", score.sampling_error, score.samples),
        ("problems", score.problem_error, 1),
    ):
        if error:
            found.append(Error(name, f"±{decimal(error, digits=digits)}"))
        elif error is not None and (name == "sampling" or score.accuracy in (0, 1)):
            low, high = interval(score.accuracy, problems=len(score.solved), samples=samples)
            least, most = decimal(low, digits=digits), decimal(high, digits=digits)
            told = f">= {least}" if high == 1 else f"<= {most}" if low == 0 else f"{least} to {most}"
            found.append(Error(name, f"{told}, 95 %", (low, high)))
    return found


def short(score: Score, *, digits: int = 3) -> str:
    """The accuracy with its errors for a table: ``0.600 ±0.011 ±0.022``, or ``1.000 (>= 0.985, 95 %)``.

    One that stands alone is named, for the other is looked for in its place.

    The bound is that of sampling, which is for these very problems, where there is one.
    """
    text, bound = decimal(score.accuracy, digits=digits), False
    known = errors(score, digits=digits)
    for error in known:
        if error.bounds is None:
            text += f" {error.text}" + (f" ({error.name})" if len(known) == 1 else "")
        elif not bound:
            text, bound = f"{text} ({error.text})", True
    return text
