from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from dashboards import metrics
from study.results import StudyResults, read_metrics, read_study
from tests.dashboards.synthetic import SyntheticStudy


def series(values: list[float], metric: str = "policy_kl", trial: int = 1) -> pl.DataFrame:
    rows = [(trial, f"#{trial}", step, metric, value) for step, value in enumerate(values, start=1)]
    return pl.DataFrame(rows, schema=metrics.SCHEMA, orient="row")


def test_training_repeats_the_metrics_of_the_chosen_trials(finished: StudyResults) -> None:
    frame = metrics.training(finished, [2, 3])
    assert set(frame["trial"]) == {2, 3}
    own = frame.filter((pl.col("trial") == 3) & (pl.col("metric") == "entropy"))
    assert own["value"].to_list() == read_metrics(finished.trials[3])["entropy"].to_list()


def test_how_many_groups_taught_something_is_plotted(finished: StudyResults) -> None:
    own = metrics.training(finished, [3]).filter(pl.col("metric") == "groups_kept")
    assert own["value"].to_list() == read_metrics(finished.trials[3])["groups_kept"].to_list()


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
    several = [series([1, 2, 3, 4]), series([20] * 4, trial=2), series([10] * 4, metric="grad_norm")]
    smooth = metrics.smoothed(pl.concat(several), 2)
    own = pl.col("metric") == "policy_kl"
    assert smooth.filter(own, pl.col("trial") == 1)["value"].to_list() == [1, 1.5, 2.5, 3.5]
    assert smooth.filter(own, pl.col("trial") == 2)["value"].to_list() == [20] * 4
    assert smooth.filter(pl.col("metric") == "grad_norm")["value"].to_list() == [10] * 4


def test_one_high_step_raises_the_smoothed_curve_as_long_as_it_is_in_the_window() -> None:
    assert metrics.smoothed(series([1, 2, 6, 4]), 3)["value"].to_list() == [1, 1.5, 3, 4]


def test_accuracy_stands_at_the_evaluations_of_the_set_that_selects(finished: StudyResults) -> None:
    frame = metrics.training(finished, [0])
    own = frame.filter(pl.col("metric") == "accuracy/cons").select("step", "value").rows()
    assert own == [(each.step, each.scores[0].cons) for each in finished.trials[0].evaluations]


def test_fewer_responses_than_planned_have_no_majority_and_no_pass(raced: StudyResults) -> None:
    steps = {name: metrics.training(raced, [1]).filter(pl.col("metric") == f"accuracy/{name}")["step"].to_list()
             for name in ("avg", "cons", "pass")}  # fmt: skip
    assert steps == {"avg": [0, 5, 10], "cons": [0, 5], "pass": [0, 5]}
    few = metrics.accuracy(raced, [1], "sums_select")
    assert few.filter(pl.col("metric") == "accuracy/pass")["step"].to_list() == [0, 5]


def test_where_both_bounds_are_0_no_weight_is_at_one(finished: StudyResults) -> None:
    bound = metrics.training(finished, [0, 1]).filter(pl.col("metric") == metrics.BOUND)
    assert finished.trials[0].params["fipo.epsilon_f_high"] == 0 and set(bound["trial"]) == {1}
    beside = {"fipo.epsilon_f_low": 0, "fipo.epsilon_f_high": 0}  # as of a control where the space has neither
    trials = (finished.trials[0], replace(finished.trials[1], beside=beside))
    assert metrics.BOUND not in set(metrics.training(replace(finished, trials=trials), [0, 1])["metric"])


def test_smoothing_leaves_evaluations_as_they_are(finished: StudyResults) -> None:
    frame = metrics.training(finished, [0])
    rare = pl.col("metric") == "accuracy/avg"
    assert metrics.smoothed(frame, 10).filter(rare).equals(frame.filter(rare))
