"""The generated sets."""

from __future__ import annotations

import hashlib

import pytest

from trainer.errors import UserError
from trainer.problems import SET_SIZES, Problem, embedded_problems, held_out


def numbers(problem: Problem) -> tuple[int, ...]:
    return tuple(int(number) for number in problem.prompt.removesuffix("=").split("+"))


@pytest.mark.parametrize("name", SET_SIZES)
def test_an_embedded_problem_is_a_sum_of_three_to_six_two_digit_numbers(name: str) -> None:
    problems = embedded_problems(f"embedded:{name}")
    assert len(problems) == SET_SIZES[name]
    for problem in problems:
        assert 3 <= len(numbers(problem)) <= 6
        assert all(10 <= number <= 99 for number in numbers(problem))
        assert problem.answer == str(sum(numbers(problem)))
    assert {len(numbers(problem)) for problem in problems} == {3, 4, 5, 6}


def test_no_sum_is_in_two_embedded_sets_in_any_order() -> None:
    sorted_sums = [tuple(sorted(numbers(each))) for name in SET_SIZES for each in embedded_problems(f"embedded:{name}")]
    assert len(set(sorted_sums)) == sum(SET_SIZES.values())


def test_held_out_is_the_evaluation_sets() -> None:
    evaluated = [numbers(each) for name in ("select", "report") for each in embedded_problems(f"embedded:{name}")]
    assert held_out() == {tuple(sorted(each)) for each in evaluated}


def test_embedded_sets_are_the_same_on_every_machine() -> None:
    """Scores of two machines are comparable only so; the digest was taken when the sets were made."""
    text = "\n".join(
        each.prompt for name in ("select", "report", "train") for each in embedded_problems(f"embedded:{name}")
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "5979faaebcdcb622"


def test_an_unknown_embedded_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"embedded:test: no such embedded set.*embedded:report, embedded:select"):
        embedded_problems("embedded:test")
