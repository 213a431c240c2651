"""Problems: the generated AIME-style sums that every machine has, and the user's own JSONL files."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
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


def load_problems(path: str) -> list[Problem]:
    """The problems of `embedded:train`, `embedded:select` or `embedded:report`, or of a local JSONL file.

    A line of the file is an object with `problem` (text) and `answer` (an integer, or a string of one: "025" is 25);
    other keys are ignored.

    Raises:
        UserError: unknown embedded set, no such file, or a line that is not a problem (file and line are named).
    """
    if path.startswith(EMBEDDED):
        return embedded_problems(path)
    return _read_jsonl(Path(path).expanduser())


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


def _read_jsonl(path: Path) -> list[Problem]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would cut at U+2028 within a string
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a JSONL file or embedded:train, embedded:select") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a readable JSONL file") from None
    problems = [_problem(line, f"{path} line {at}") for at, line in enumerate(lines, 1) if line.strip()]
    if not problems:
        raise UserError(f"{path}: holds no problems; give one JSON object with problem and answer on each line")
    return problems


def _problem(line: str, where: str) -> Problem:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise UserError(f"{where}: is not JSON ({reason}); mend or remove that line") from None
    if not isinstance(record, dict):
        raise UserError(f'{where}: is not a JSON object; write {{"problem": ..., "answer": ...}}')
    missing = [key for key in ("problem", "answer") if key not in record]
    if missing:
        found = ", ".join(map(str, record)) or "nothing"
        raise UserError(f"{where}: has no {missing[0]} (it has {found}); each line needs problem and answer")
    prompt, answer = record["problem"], record["answer"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: problem = {prompt!r} is not text; write the question as a string")
    return Problem(prompt, _integer(answer, where))


def _integer(answer: object, where: str) -> str:
    # bool is an int in Python; a float such as 25.0 may have lost digits, so neither is taken for an answer.
    text = str(answer).strip() if isinstance(answer, int | str) and not isinstance(answer, bool) else ""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 100):
        raise UserError(f"{where}: answer = {answer!r} is not an integer; AIME answers are integers 0 to 999")
    return str(int(text))
