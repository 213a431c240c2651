from __future__ import annotations

import polars as pl

from dashboards import metrics, paper


def test_figure_3f_ends_where_the_paper_says() -> None:
    fipo = paper.length_accuracy().filter(pl.col("run") == "fipo")
    assert fipo.height == 59
    assert fipo["length"].max() > 10_000
    assert 0.56 < fipo["accuracy"].max() < 0.58


def test_both_papers_runs_are_there_with_fractions_and_tokens() -> None:
    frame = paper.length_accuracy()
    assert set(frame["run"]) == {"fipo", "dapo"}
    assert frame["accuracy"].is_between(0, 1).all()


def test_every_curve_is_of_a_quantity_that_a_panel_shows() -> None:
    assert set(paper.curves()["metric"]) <= {each.metric for each in metrics.QUANTITIES}


def test_each_name_is_one_run_of_one_figure() -> None:
    per_name = paper.curves().group_by("name").agg(pl.struct("figure", "model", "run").n_unique().alias("runs"))
    assert set(per_name["runs"]) == {1}
    assert sorted(paper.runs()) == sorted(per_name["name"])
