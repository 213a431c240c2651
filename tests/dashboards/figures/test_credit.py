from __future__ import annotations

from dashboards import completions
from dashboards.figures.credit import credit
from tests.dashboards import synthetic


def test_each_token_has_its_weight_and_its_text_stays_text() -> None:
    tokens = completions.tokens(synthetic.completions(5, text="<b>x</b>\n").row(0, named=True))
    (line,) = credit(tokens).data
    assert list(line.y) == tokens["influence_weight"].to_list()
    assert line.text[0] == "1: '&lt;'" and line.text[8] == r"9: '\n'"
    assert not any("<" in each for each in line.text)


def test_a_line_marks_the_weight_that_changes_nothing() -> None:
    tokens = completions.tokens(synthetic.completions(5, text="abc").row(0, named=True))
    assert [shape.y0 for shape in credit(tokens).layout.shapes] == [1]
