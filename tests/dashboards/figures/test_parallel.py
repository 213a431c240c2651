from __future__ import annotations

import polars as pl
import pytest

from dashboards import frames, palette, scores
from dashboards.figures.parallel import LEVELS, MOST, parallel_coordinates, thinned
from study.results import StudyResults

KEYS = ["fipo.half_life", "fipo.epsilon_f_high", "optimizer.learning_rate"]


@pytest.fixture
def known(finished: StudyResults) -> pl.DataFrame:
    return scores.at_step(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", step=5)


def lines(frame: pl.DataFrame) -> list[list[float | None]]:
    """Heights of every trial's line at the axes, in the order in which they are drawn."""
    figure = parallel_coordinates(frame, KEYS, measure="m")
    return [list(trace.y[i : i + 4]) for trace in figure.data for i in range(0, len(trace.y), 5)]


def test_every_trial_is_a_line_with_the_best_at_the_top_of_the_score_and_drawn_last(known: pl.DataFrame) -> None:
    drawn = lines(known)
    assert len(drawn) == known.height
    heights = [line[-1] for line in drawn]
    assert heights == sorted(heights) and (heights[0], heights[-1]) == (0, 1)
    assert all(0 <= place <= 1 for line in drawn for place in line if place is not None)


def test_a_missing_value_is_a_gap(known: pl.DataFrame) -> None:
    frame = known.with_columns(pl.when(pl.col("trial") > 0).then("fipo.half_life").alias("fipo.half_life"))
    assert sum(line[0] is None for line in lines(frame)) == 1


def test_words_have_a_place_and_a_name_each(known: pl.DataFrame) -> None:
    frame = known.with_columns(pl.Series("fipo.filtering", ["null", "128", "16", "1,024"] * (known.height // 4)))
    figure = parallel_coordinates(frame, ["fipo.filtering"], measure="m")
    names = [note for note in figure.layout.annotations if note.x == 0]
    assert [note.text for note in sorted(names, key=lambda note: note.y)] == ["16", "128", "1,024", "null"]


def test_many_trials_are_few_traces_without_webgl(known: pl.DataFrame) -> None:
    many = pl.concat([known.with_columns(pl.col("score") * share / 40) for share in range(1, 41)])
    figure = parallel_coordinates(many, KEYS, measure="m")
    assert {trace.type for trace in figure.data} == {"scatter"} and len(figure.data) <= LEVELS


def test_of_a_large_study_the_best_the_worst_and_an_even_choice_between_are_lines(known: pl.DataFrame) -> None:
    many = pl.concat([known.with_columns(pl.col("score") * share / 40) for share in range(1, 41)])
    many = many.sort("score", descending=True)
    drawn = thinned(many)
    assert drawn.height == MOST
    assert (drawn["score"][0], drawn["score"][-1]) == (many["score"][0], many["score"][-1])
    assert thinned(known).equals(known)


def test_one_collapsed_trial_does_not_take_the_colours_from_all_others() -> None:
    low, high = palette.span(pl.Series([0.02, 0.80, 0.81, 0.82, 0.83, 0.84]))
    assert 0.7 < low < 0.80 and high == 0.84
    assert palette.span(pl.Series([0.5, 0.6, 0.7])) == (0.5, 0.7)


def test_many_ties_do_not_take_the_colours_from_those_below_them() -> None:
    low, high = palette.span(pl.Series([*[0.9667] * 7, 0.975, 0.9333, 0.8125]))
    assert (low, high) == pytest.approx((0.875, 0.975))
    assert palette.span(pl.Series([*[0.9667] * 7, 0.975, 0.9333])) == (0.9333, 0.975)
