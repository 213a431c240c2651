"""Problems, and the generated AIME-style sums that every machine has."""

from __future__ import annotations

import random
from functools import cache
from typing import NamedTuple

from trainer.errors import UserError

SET_SIZES = {"select": 30, "report": 30, "train": 4000}
"""Problems of each embedded set. AIME I and II of one year are 30 problems, so the two evaluation sets are too."""

EMBEDDED = "embedded:"
"""How the path of a generated set begins."""


class Problem(NamedTuple):
    """One question with the answer that earns the reward."""

    prompt: str
    answer: str
    whole: bool = False
    """Whether `prompt` is all that the policy is to see, so that no template goes around it."""


def embedded_problems(path: str) -> list[Problem]:
    """The generated problems of `embedded:train`, `embedded:select` or `embedded:report`, the same on every machine.

    Raises:
        UserError: another name.
    """
    name = path.removeprefix(EMBEDDED)
    if name not in SET_SIZES:
        known = ", ".join(EMBEDDED + each for each in sorted(SET_SIZES))
        raise UserError(f"{path}: no such embedded set; known: {known}; choose one or give a file")
    return [Problem(sum_prompt(numbers), str(sum(numbers)), whole=True) for numbers in _embedded_sets()[name]]


def sum_prompt(numbers: tuple[int, ...]) -> str:
    """How a sum is put to the policy, for example `47+38+59=`."""
    return "+".join(map(str, numbers)) + "="


def random_sum(generator: random.Random) -> tuple[int, ...]:
    """Three to six two-digit numbers, so the answer is within AIME's 0 to 999."""
    return tuple(generator.randint(10, 99) for _ in range(generator.randint(3, 6)))


@cache
def held_out() -> frozenset[tuple[int, ...]]:
    """The numbers of every evaluation problem, sorted: nothing may be trained on these in any order."""
    sets = _embedded_sets()
    return frozenset(tuple(sorted(numbers)) for name in ("select", "report") for numbers in sets[name])


@cache
def _embedded_sets() -> dict[str, tuple[tuple[int, ...], ...]]:
    """One stream of sums, none a reordering of another, cut into the sets: they cannot overlap."""
    generator = random.Random("fipo embedded sums")
    seen: set[tuple[int, ...]] = set()
    sets: dict[str, tuple[tuple[int, ...], ...]] = {}
    for name, size in SET_SIZES.items():
        chosen: list[tuple[int, ...]] = []
        while len(chosen) < size:
            numbers = random_sum(generator)
            if tuple(sorted(numbers)) not in seen:
                seen.add(tuple(sorted(numbers)))
                chosen.append(numbers)
        sets[name] = tuple(chosen)
    return sets
