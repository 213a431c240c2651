from __future__ import annotations

import itertools

import polars as pl
import pytest

from dashboards.thinning import ends_only, thin


def curves(trials: int, *, points: int = 10, running: tuple[int, ...] = ()) -> pl.DataFrame:
    """`trials` curves that end at accuracy trial / trials; trial 0 is a control."""
    rows = [
        {"trial": trial, "state": "RUNNING" if trial in running else "COMPLETE",
         "control": "DAPO" if trial == 0 else None, "step": step, "accuracy": trial / trials * step / (points - 1),
         "last": step == points - 1}
        for trial in range(trials) for step in range(points)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"control": pl.String})


def test_a_small_study_is_drawn_whole_without_a_word() -> None:
    frame = curves(12)
    thinned = thin(frame, best=11)
    assert thinned.curves.equals(frame)
    assert thinned.ends.is_empty() and thinned.every == 1 and thinned.sentence == ""


@pytest.mark.parametrize("trials", [41, 100, 1000])
def test_every_trial_is_drawn_once_as_a_curve_or_an_end(trials: int) -> None:
    thinned = thin(curves(trials), best=trials - 1)
    drawn, ends = set(thinned.curves["trial"]), thinned.ends["trial"].to_list()
    assert len(drawn) == 40
    assert sorted([*drawn, *ends]) == list(range(trials))


def test_the_best_the_control_and_the_running_are_always_curves() -> None:
    thinned = thin(curves(500, running=(7, 8)), best=321)
    assert {0, 321, 7, 8} <= set(thinned.curves["trial"])


def test_the_chosen_spread_evenly_from_best_to_worst() -> None:
    drawn = sorted(set(thin(curves(1000)).curves["trial"]))
    gaps = [second - first for first, second in itertools.pairwise(drawn[1:])]
    assert drawn[-1] == 999 and max(gaps) <= 2 * min(gaps)


def test_a_thinned_curve_keeps_its_ends_and_its_order() -> None:
    thinned = thin(curves(40, points=100), most_points=500)
    assert thinned.every == 8
    for own in thinned.curves.partition_by("trial"):
        assert own["step"].is_sorted()
        assert (own["step"][0], own["step"][-1]) == (0, 99)
        assert own["last"].to_list() == [False] * (own.height - 1) + [True]


def test_what_is_left_out_is_said() -> None:
    sentence = thin(curves(100, points=100), most_points=1200).sentence
    assert "40 of 100 trials" in sentence and "One evaluation in 4" in sentence


def test_no_points_are_no_points() -> None:
    assert thin(curves(3).clear()).curves.is_empty()


def test_newest_points_alone_have_error_bars_while_they_are_few() -> None:
    ends = curves(12).filter("last")
    few = ends_only(ends)
    assert few.curves.equals(ends) and few.ends.is_empty() and few.sentence == ""
    many = ends_only(ends, best=3, most_bars=5)
    assert many.curves["trial"].to_list() == [0, 3] and many.ends.height == ends.height - 2
    assert "Error bars" in many.sentence
