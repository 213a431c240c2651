from __future__ import annotations

import polars as pl
import pytest

from dashboards import fits, paper


def points(rows: list[tuple[int, int, float, float]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["trial", "step", "length", "accuracy"], orient="row")
    return frame.with_columns((pl.col("step") == pl.col("step").max().over("trial")).alias("last"))


def test_a_line_is_found_again_in_each_stage() -> None:
    early = [(0, step, 100.0 + step, 0.1 + 0.01 * step) for step in range(10)]
    late = [(0, step, 200.0 + step, 0.5 + 0.001 * step) for step in range(10, 20)]
    frame = fits.stage_fits(points(early + late), stages=2)
    assert frame["slope"].to_list() == pytest.approx([0.01, 0.001])
    assert frame["r2"].to_list() == pytest.approx([1, 1])
    assert frame.select("first_step", "last_step").rows() == [(0, 9), (10, 19)]


@pytest.mark.parametrize(
    ("stage", "slope", "r2"), [(1, 19.9e-5, 0.92), (2, 3.8e-5, 0.93), (3, 1.5e-5, 0.78), (4, 2.0e-5, 0.63)]
)
def test_the_papers_own_stages_give_its_printed_slopes_and_r2(stage: int, slope: float, r2: float) -> None:
    fipo = paper.length_accuracy().filter(pl.col("run") == "fipo").with_row_index("order")
    # The stages of Figure 3(f) hold 7, 10, 19 and 23 of its 59 points.
    first, last = [(0, 7), (7, 17), (17, 36), (36, 59)][stage - 1]
    own = fipo.filter(pl.col("order").is_between(first, last - 1)).with_columns(pl.lit(0).alias("step"))
    row = fits.stage_fits(own, stages=1).row(0, named=True)
    assert row["slope"] == pytest.approx(slope, abs=0.05e-5)
    assert row["r2"] == pytest.approx(r2, abs=0.005)


def test_a_stage_with_too_few_points_or_one_length_has_no_line() -> None:
    assert fits.stage_fits(points([(0, 0, 10.0, 0.1), (0, 1, 11.0, 0.2)]), stages=1).is_empty()
    assert fits.stage_fits(points([(0, step, 10.0, 0.1) for step in range(5)]), stages=1).is_empty()
    assert fits.stage_fits(points([]).clear(), stages=3).is_empty()


def test_the_base_model_counts_once_however_many_trials_start_from_it() -> None:
    base = [(trial, 0, 10.0, 0.2) for trial in range(5)]
    frame = points([*base, (0, 5, 12.0, 0.35), (1, 5, 15.0, 0.4), (2, 5, 16.0, 0.6)])
    assert fits.stage_fits(frame, stages=1)["points"].to_list() == [4]


def test_the_front_holds_exactly_the_trials_that_none_beats() -> None:
    frame = points([(0, 5, 10.0, 0.3), (1, 5, 12.0, 0.2), (2, 5, 15.0, 0.6), (3, 5, 15.0, 0.5), (4, 5, 20.0, 0.6)])
    assert fits.pareto_front(frame)["trial"].to_list() == [0, 2]


def test_only_a_trials_newest_point_can_be_on_the_front() -> None:
    frame = points([(0, 0, 5.0, 0.9), (0, 5, 10.0, 0.3)])
    assert fits.pareto_front(frame)["step"].to_list() == [5]
