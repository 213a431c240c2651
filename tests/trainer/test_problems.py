"""The generated sets and the user's JSONL files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from trainer.errors import UserError
from trainer.problems import SET_SIZES, Problem, held_out, load_problems


def numbers(problem: Problem) -> tuple[int, ...]:
    return tuple(int(number) for number in problem.prompt.removesuffix("=").split("+"))


def jsonl(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", SET_SIZES)
def test_an_embedded_problem_is_a_sum_of_three_to_six_two_digit_numbers(name: str) -> None:
    problems = load_problems(f"embedded:{name}")
    assert len(problems) == SET_SIZES[name]
    for problem in problems:
        assert 3 <= len(numbers(problem)) <= 6
        assert all(10 <= number <= 99 for number in numbers(problem))
        assert problem.answer == str(sum(numbers(problem)))
    assert {len(numbers(problem)) for problem in problems} == {3, 4, 5, 6}


def test_no_sum_is_in_two_embedded_sets_in_any_order() -> None:
    sorted_sums = [tuple(sorted(numbers(each))) for name in SET_SIZES for each in load_problems(f"embedded:{name}")]
    assert len(set(sorted_sums)) == sum(SET_SIZES.values())


def test_held_out_is_the_evaluation_sets() -> None:
    evaluated = [numbers(each) for name in ("select", "report") for each in load_problems(f"embedded:{name}")]
    assert held_out() == {tuple(sorted(each)) for each in evaluated}


def test_embedded_sets_are_the_same_on_every_machine() -> None:
    """Scores of two machines are comparable only so; the digest was taken when the sets were made."""
    text = "\n".join(
        each.prompt for name in ("select", "report", "train") for each in load_problems(f"embedded:{name}")
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "5979faaebcdcb622"


def test_an_unknown_embedded_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"embedded:test: no such embedded set.*embedded:report, embedded:select"):
        load_problems("embedded:test")


def test_problems_of_a_file_are_read_in_order(tmp_path: Path) -> None:
    rows = [{"problem": "1+1=", "answer": 2, "id": 7}, {"problem": "Löse x = 25\u2028jetzt", "answer": "025"}]
    path = jsonl(tmp_path / "p.jsonl", json.dumps(rows[0]), "", json.dumps(rows[1], ensure_ascii=False))
    assert load_problems(str(path)) == [Problem("1+1=", "2"), Problem("Löse x = 25\u2028jetzt", "25")]


def test_a_byte_order_mark_is_not_part_of_the_first_problem(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"problem": "1+1=", "answer": "2"}\n', encoding="utf-8-sig")
    assert load_problems(str(path)) == [Problem("1+1=", "2")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"problem": "1+1=", "answer": 2', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1, 2]", "is not a JSON object"),
        ('{"question": "1+1=", "answer": 2}', "has no problem (it has question, answer)"),
        ('{"problem": "1+1="}', "has no answer"),
        ('{"problem": 3, "answer": 2}', "problem = 3 is not text"),
        ('{"problem": "  ", "answer": 2}', "is not text"),
        ('{"problem": "1+1=", "answer": "two"}', "answer = 'two' is not an integer"),
        ('{"problem": "1+1=", "answer": 2.5}', "answer = 2.5 is not an integer"),
        ('{"problem": "1+1=", "answer": true}', "answer = True is not an integer"),
        ('{"problem": "1+1=", "answer": "²"}', "answer = '²' is not an integer"),
        ('{"problem": "1+1=", "answer": null}', "answer = None is not an integer"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = jsonl(tmp_path / "p.jsonl", '{"problem": "1+1=", "answer": "2"}', line)
    with pytest.raises(UserError) as raised:
        load_problems(str(path))
    assert str(raised.value).startswith(f"{path} line 2: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unusable_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes('{"problem": "é"}'.encode("latin-1"))
    jsonl(tmp_path / "empty.jsonl")
    for name, reason in [("none.jsonl", "no such file"), ("latin.jsonl", "not UTF-8"), ("empty.jsonl", "no problems")]:
        with pytest.raises(UserError, match=f"{name}: .*{reason}"):
            load_problems(str(tmp_path / name))
    with pytest.raises(UserError, match="cannot be read"):
        load_problems(str(tmp_path))
