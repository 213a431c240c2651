from __future__ import annotations

import pytest

from dashboards.figures.problems import solved_map
from study.paired import common
from study.results import StudyResults
from trainer.records import SetScore


@pytest.fixture
def scores(finished: StudyResults) -> dict[str, SetScore]:
    found = common(finished, "sums_select", [0, 1])
    assert found is not None
    return {"DAPO": found[1][0], "<img src=x>": found[1][1]}


def test_each_trial_is_a_row_of_solved_shares_in_the_order_of_the_set(scores: dict[str, SetScore]) -> None:
    (heat,) = solved_map(scores, hardest_first=False).data
    for row, score in zip(heat.z, scores.values(), strict=True):
        assert list(row) == [solved / score.samples for solved in score.solved]
    assert list(heat.x) == [str(i) for i in range(1, 31)]
    assert (heat.zmin, heat.zmax) == (0, 1)


def test_the_hardest_problem_of_all_comes_first_under_its_own_number(scores: dict[str, SetScore]) -> None:
    (heat,) = solved_map(scores, hardest_first=True).data
    totals = [sum(column) for column in zip(*heat.z, strict=True)]
    assert totals == sorted(totals)
    first = int(heat.x[0]) - 1
    assert [row[0] for row in heat.z] == [score.solved[first] / score.samples for score in scores.values()]


def test_hovering_tells_the_counts_and_no_name_is_markup(scores: dict[str, SetScore]) -> None:
    (heat,) = solved_map(scores, hardest_first=False).data
    assert heat.text[0][0] == f"<b>DAPO</b>, problem 1: {scores['DAPO'].solved[0]} of 8 solved"
    assert "<img" not in str(heat.y) + str(heat.text)
