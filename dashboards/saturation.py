"""What is known of an accuracy whose responses show no spread: every problem was solved always or never.

Its estimated error is 0, for want of evidence and not of noise. What can be said is a bound. Pure functions.
"""

from __future__ import annotations

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
