from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from dashboards import metrics, paper
from study.results import StudyResults, read_metrics, read_study
from tests.dashboards.synthetic import SyntheticStudy


def series(values: list[float], metric: str = "policy_kl") -> pl.DataFrame:
    rows = [(1, "#1", step, metric, value) for step, value in enumerate(values, start=1)]
    return pl.DataFrame(rows, schema=metrics.SCHEMA, orient="row")


def test_training_repeats_the_metrics_of_the_chosen_trials(finished: StudyResults) -> None:
    frame = metrics.training(finished, [2, 3])
    assert set(frame["trial"]) == {2, 3}
    own = frame.filter((pl.col("trial") == 3) & (pl.col("metric") == "entropy"))
    assert own["value"].to_list() == read_metrics(finished.trials[3])["entropy"].to_list()


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    study = SyntheticStudy(tmp_path / "nan")
    trial = study.begin()
    study.run(trial, until=3)
    with (study.folder(trial) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "entropy": null, "policy_kl": NaN, "grad_norm": 1.5}\n')
    frame = metrics.training(read_study(study.directory), [trial.number])
    for metric in ("entropy", "policy_kl"):
        assert frame.filter(pl.col("metric") == metric)["step"].to_list() == [1, 2, 3]
    assert frame.filter(pl.col("metric") == "grad_norm")["step"].to_list() == [1, 2, 3, 4]


def test_no_metrics_is_an_empty_frame_of_the_same_shape(finished: StudyResults) -> None:
    frame = metrics.training(finished, [])
    assert frame.is_empty() and frame.schema == metrics.SCHEMA


def test_smoothing_is_the_mean_of_the_last_steps_of_one_trial_and_metric() -> None:
    two = pl.concat([series([1, 2, 3, 4]), series([10, 10, 10, 10], metric="grad_norm")])
    smooth = metrics.smoothed(two, 2)
    assert smooth.filter(pl.col("metric") == "policy_kl")["value"].to_list() == [1, 1.5, 2.5, 3.5]
    assert smooth.filter(pl.col("metric") == "grad_norm")["value"].to_list() == [10] * 4


def test_the_papers_collapse_is_caught_where_its_length_turns() -> None:
    run = paper.curves().filter(pl.col("figure") == 2)
    frame = run.select(pl.lit(0).alias("trial"), pl.lit("paper").alias("label"), "step", "metric", "value")
    caught = metrics.early_warnings(frame.cast(metrics.SCHEMA).sort("metric", "step"))
    assert caught["metric"].to_list() == ["policy_kl"]
    lengths = run.filter(pl.col("metric") == "response_length/mean").sort("value")
    assert 60 <= caught["step"][0] <= lengths["step"][-1] + 5


def test_a_steady_run_gives_no_warning() -> None:
    assert metrics.early_warnings(series([1.0, 1.2] * 40)).is_empty()


@pytest.mark.parametrize(("jump", "step"), [([4.0] * 3, 21), ([4.0, 4.0, 1.0] * 3, None), ([2.9] * 10, None)])
def test_a_warning_is_three_steps_in_a_row_over_three_medians(jump: list[float], step: int | None) -> None:
    found = metrics.early_warnings(series([1.0] * 20 + jump))["step"].to_list()
    assert found == ([] if step is None else [step])


def test_the_first_steps_are_not_judged() -> None:
    assert metrics.early_warnings(series([1.0, 9.0, 9.0, 9.0, 1.0, 1.0] + [1.0] * 20)).is_empty()
