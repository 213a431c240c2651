from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dashboards import frames, scores
from study.attributes import PRUNER_REASON
from study.lock import Driver
from study.paired import common
from study.results import StudyResults, read_study
from tests.dashboards.synthetic import SyntheticStudy, with_gamma


def with_trials(results: StudyResults, **changes: Any) -> StudyResults:
    """The same study with `changes` made to its first trial, which is all that is left of it."""
    return dataclasses.replace(results, trials=(dataclasses.replace(results.trials[0], **changes),))


def test_trials_have_one_row_each_in_order_with_the_sampled_parameters(finished: StudyResults) -> None:
    frame = frames.trials(finished)
    assert frame["trial"].to_list() == [trial.number for trial in finished.trials]
    for row, trial in zip(frame.iter_rows(named=True), finished.trials, strict=True):
        assert row["state"] == trial.state
        assert {key: row[key] for key in trial.params} == pytest.approx(trial.params)


def test_the_control_is_labelled_and_the_others_are_numbered(finished: StudyResults) -> None:
    assert frames.trials(finished)["label"].to_list()[:2] == ["DAPO (#0)", "#1"]


def test_what_was_enqueued_after_the_launch_is_no_control(finished: StudyResults) -> None:
    later = dataclasses.replace(finished.trials[3], enqueued="warm start")
    frame = frames.trials(dataclasses.replace(finished, trials=(*finished.trials[:3], later, *finished.trials[4:])))
    assert frame["control"].to_list()[:4] == ["DAPO", None, None, None]
    assert frame["enqueued"].to_list()[:4] == [None, None, None, "warm start"]
    assert frame["label"][3] == "warm start (#3)"


def test_a_running_trial_without_a_driver_is_stopped(finished: StudyResults) -> None:
    running = with_trials(finished, state="RUNNING")
    assert frames.trials(running)["state"].to_list() == ["STOPPED"]
    assert frames.trials(dataclasses.replace(running, driver=Driver("host", 1)))["state"].to_list() == ["RUNNING"]


def test_a_confirmation_is_labelled_with_what_it_confirms(finished: StudyResults) -> None:
    assert frames.trials(with_trials(finished, control=None, confirms=3))["label"].to_list() == ["#0 confirms #3"]


@pytest.mark.parametrize(
    ("given", "derived", "value", "expected"),
    [
        ("fipo.half_life", "fipo.gamma", 32.0, 2 ** (-1 / 32)),
        ("fipo.gamma", "fipo.half_life", 0.5, 1.0),
        ("fipo.gamma", "fipo.half_life", 1.0, None),
        ("fipo.gamma", "fipo.half_life", 0.0, None),
        ("fipo.gamma", "fipo.half_life", 1 - 1e-5, -math.log(2) / math.log1p(-1e-5)),
        ("fipo.gamma", "fipo.half_life", math.nextafter(1, 0), None),
    ],
)
def test_gamma_and_half_life_are_both_columns(
    finished: StudyResults, given: str, derived: str, value: float, expected: float | None
) -> None:
    frame = frames.trials(with_trials(finished, params={given: value}))
    assert frame[derived][0] == (None if expected is None else pytest.approx(expected))


def test_a_parameter_of_words_and_switches_becomes_text(finished: StudyResults) -> None:
    first, second = finished.trials[:2]
    results = dataclasses.replace(
        finished,
        trials=(
            dataclasses.replace(first, params={"fipo.filtering": True}),
            dataclasses.replace(second, params={"fipo.filtering": "other"}),
        ),
    )
    assert frames.trials(results)["fipo.filtering"].to_list() == ["True", "other"]


def test_a_value_that_is_off_is_no_missing_one(finished: StudyResults) -> None:
    first, second, third = finished.trials[:3]
    cap = "rollout.importance_cap"
    trials = [dataclasses.replace(first, params={cap: None}), dataclasses.replace(second, params={cap: 2.0})]
    results = dataclasses.replace(finished, trials=(*trials, dataclasses.replace(third, params={})))
    assert frames.trials(results)[cap].to_list() == ["null", "2", None]


@pytest.mark.parametrize("key", ["fipo.gamma", "fipo.half_life"])
def test_a_discount_that_may_be_null_is_a_choice_of_names(finished: StudyResults, key: str) -> None:
    first, second = finished.trials[:2]
    trials = (dataclasses.replace(first, params={key: None}), dataclasses.replace(second, params={key: 0.5}))
    frame = frames.trials(dataclasses.replace(finished, trials=trials))
    assert frame[key].to_list() == ["null", "0.5"]
    assert frames.parameters(frame) == [key]


def test_parameters_lists_only_what_varies_with_the_discount_first(finished: StudyResults) -> None:
    frame = frames.trials(finished).with_columns(pl.lit(0.5).alias("reward.overlong_penalty"))
    assert frames.parameters(frame) == [
        "fipo.half_life", "fipo.gamma", "fipo.epsilon_f_low", "fipo.epsilon_f_high", "optimizer.learning_rate",
    ]  # fmt: skip


@pytest.mark.parametrize("gamma", [0.0, 1.0, math.nextafter(1, 0)])
def test_gamma_stands_for_the_half_life_where_a_trial_has_none(finished: StudyResults, gamma: float) -> None:
    swept = frames.trials(with_gamma(finished))
    assert frames.parameters(swept)[:2] == ["fipo.half_life", "fipo.gamma"]
    edge = frames.trials(with_gamma(finished, best=gamma))
    assert frames.parameters(edge)[:2] == ["fipo.gamma", "fipo.epsilon_f_low"]
    waits = swept.with_columns(pl.when(pl.col("trial") > 0).then(each).alias(each) for each in scores.parameters(swept))
    assert "fipo.half_life" in frames.parameters(waits)  # a trial without any value yet lacks no half-life


def test_evaluations_repeat_the_records(finished: StudyResults) -> None:
    frame = frames.evaluations(finished)
    trial = finished.trials[3]
    expected = [(e.step, s.name, s.accuracy, s.mean_length) for e in trial.evaluations for s in e.scores]
    own = frame.filter(pl.col("trial") == trial.number).select("step", "set", "accuracy", "mean_length")
    assert own.rows() == expected


def test_the_selecting_set_comes_first(finished: StudyResults) -> None:
    assert frames.sets(frames.evaluations(finished)) == ["sums_select", "sums_report"]


def test_curves_run_in_step_order_and_mark_the_newest_point(finished: StudyResults) -> None:
    shuffled = frames.evaluations(finished).sample(fraction=1.0, shuffle=True, seed=1)
    points = frames.curves(frames.trials(finished), shuffled, set_name="sums_select")
    for (_,), own in points.group_by("trial"):
        assert own["step"].is_sorted()
        assert own["last"].to_list() == [False] * (len(own) - 1) + [True]


def test_curves_drop_points_that_are_not_finite(finished: StudyResults) -> None:
    evaluations = frames.evaluations(finished).with_columns(
        pl.when(pl.col("step") == 5).then(float("nan")).otherwise("accuracy").alias("accuracy")
    )
    points = frames.curves(frames.trials(finished), evaluations, set_name="sums_select")
    assert 5 not in points["step"]
    assert points["accuracy"].is_finite().all()


def test_each_length_is_the_one_it_is_called(finished: StudyResults) -> None:
    trials, evaluations = frames.trials(finished), frames.evaluations(finished)
    first = next(trial for trial in finished.trials if trial.evaluations)
    score = first.evaluations[0].score("sums_select")
    assert score is not None
    _, low, median, high, _ = score.length_quantiles
    for name, length in {
        "mean": score.mean_length,
        "median": median,
        "lower quartile": low,
        "upper quartile": high,
    }.items():
        points = frames.curves(trials, evaluations, set_name="sums_select", length=name, only=[first.number])
        assert points["length"][0] == length


def test_curves_take_the_chosen_length_error_colour_and_trials(finished: StudyResults) -> None:
    trials, evaluations = frames.trials(finished), frames.evaluations(finished)
    options = {
        "length": "upper quartile",
        "error": "across problems",
        "colour": "fipo.epsilon_f_high",
        "only": [1, 2],
        "steps": (5, 10),
    }
    points = frames.curves(trials, evaluations, set_name="sums_select", **options)
    source = evaluations.filter((pl.col("set") == "sums_select") & pl.col("trial").is_in([1, 2]))
    source = source.filter(pl.col("step").is_in([5, 10]))
    assert points["length"].to_list() == source["length_q75"].to_list()
    assert points["error"].to_list() == source["problem_error"].to_list()
    assert points.filter(pl.col("trial") == 1)["colour"].unique().to_list() == [
        finished.trials[1].params["fipo.epsilon_f_high"]
    ]


def test_no_error_bars_are_nulls(finished: StudyResults) -> None:
    points = frames.curves(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", error=None)
    assert points["error"].null_count() == len(points)


def test_growth_is_relative_to_the_trials_own_base_model(finished: StudyResults) -> None:
    row = frames.newest(frames.evaluations(finished), "sums_select").row(0, named=True)
    own = finished.trials[0].evaluations
    assert row["growth"] == pytest.approx(own[-1].scores[0].mean_length / own[0].scores[0].mean_length)


def test_the_base_model_is_no_result_of_a_trial_that_has_trained_on(finished: StudyResults) -> None:
    """A set that is only reported is evaluated at the start and at the end, which a pruned trial never saw."""
    pruned = {trial.number for trial in finished.trials if trial.state == "PRUNED"}
    evaluations = frames.evaluations(finished)
    table = frames.summary(frames.trials(finished), evaluations, set_name="sums_report")
    assert {*table.filter(pl.col("accuracy").is_null())["trial"]} == pruned
    curves = frames.curves(frames.trials(finished), evaluations, set_name="sums_report")
    assert {*curves["trial"]} == {trial.number for trial in finished.trials} - pruned
    begun = evaluations.filter(pl.col("step") == 0)
    table = frames.summary(frames.trials(finished), begun, set_name="sums_report")
    assert table["accuracy"].null_count() == 0


def test_what_repeats_another_trial_is_no_configuration(finished: StudyResults) -> None:
    one, two = [trial for trial in finished.trials if trial.state == "COMPLETE"][:2]
    again = dataclasses.replace(two, params=one.params, beside=one.beside)
    trials = tuple(again if trial is two else trial for trial in finished.trials)
    table = frames.trials(dataclasses.replace(finished, trials=trials))
    assert table.filter(pl.col("repeats").is_not_null()).select("trial", "repeats").rows() == [(two.number, one.number)]
    assert table.filter(~frames.CONFIGURATION)["trial"].to_list() == [two.number]


def test_the_summary_puts_the_best_finished_trial_first(finished: StudyResults) -> None:
    frame = frames.summary(frames.trials(finished), frames.evaluations(finished), set_name="sums_select")
    assert finished.best is not None
    assert frame["trial"][0] == finished.best.number
    assert frame.height == len(finished.trials)


def test_on_a_set_that_is_only_reported_the_highest_is_first(finished: StudyResults) -> None:
    frame = frames.summary(frames.trials(finished), frames.evaluations(finished), set_name="sums_report")
    known = frame["accuracy"].drop_nulls().to_list()
    assert known == sorted(known, reverse=True)
    assert frame["value"].drop_nulls().to_list() != sorted(frame["value"].drop_nulls(), reverse=True)


def test_a_pruned_trial_stands_below_finished_ones_however_high_it_was(finished: StudyResults) -> None:
    pruned = next(trial.number for trial in finished.trials if trial.state == "PRUNED")
    high = pl.when(pl.col("trial") == pruned).then(1.0).otherwise("accuracy").alias("accuracy")
    evaluations = frames.evaluations(finished).with_columns(high)
    frame = frames.summary(frames.trials(finished), evaluations, set_name="sums_select")
    complete = sum(trial.value is not None for trial in finished.trials)
    assert frame["trial"].to_list().index(pruned) == complete


def test_used_seconds_are_the_drivers_count_and_not_the_clocks(finished: StudyResults) -> None:
    used = frames.trials(finished)["used_seconds"].to_list()
    assert used == [trial.usage.seconds or None for trial in finished.trials] and any(used)


def test_the_latest_common_evaluation_is_where_the_earlier_of_two_trials_ended(finished: StudyResults) -> None:
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    found = common(finished, "sums_select", [0, pruned.number])
    assert found is not None
    step, scores = found
    assert step == pruned.pruned_at
    assert scores[pruned.number] == pruned.evaluations[-1].scores[0]
    assert scores[0] == next(each for each in finished.trials[0].evaluations if each.step == step).scores[0]
    assert common(finished, "no such set", [0, 1]) is None


def test_no_trial_left_by_the_filters_is_no_point(finished: StudyResults) -> None:
    trials, evaluations = frames.trials(finished), frames.evaluations(finished)
    assert frames.curves(trials, evaluations, set_name="sums_select", only=[]).is_empty()


def test_what_the_pruner_wrote_into_a_trial_is_read(tmp_path: Path) -> None:
    study = SyntheticStudy(tmp_path / "study", trials=1, steps=5)
    trial = study.begin()
    trial.set_user_attr(PRUNER_REASON, "worse: P = 0.9")
    assert frames.trials(read_study(study.directory))["pruner_reason"].to_list() == ["worse: P = 0.9"]


def test_an_empty_study_gives_empty_frames(finished: StudyResults) -> None:
    empty = dataclasses.replace(finished, trials=())
    trials, evaluations = frames.trials(empty), frames.evaluations(empty)
    assert trials.is_empty() and evaluations.is_empty()
    assert frames.parameters(trials) == frames.sets(evaluations) == []
    assert frames.curves(trials, evaluations, set_name="sums_select").is_empty()


def test_a_value_that_is_not_finite_is_no_value(finished: StudyResults) -> None:
    assert frames.trials(with_trials(finished, value=math.nan))["value"].to_list() == [None]


def test_an_evaluation_that_ended_early_is_told_from_whole_ones(raced: StudyResults) -> None:
    evaluations = frames.evaluations(raced)
    assert evaluations.filter(frames.FEW).select("trial", "step", "samples", "planned").rows() == [(1, 10, 2, 8)]
    assert frames.k_in_words(evaluations) == "k = 2 of 8"
    four = pl.when(pl.col("step") == 5).then(4).otherwise("samples").alias("samples")
    assert frames.k_in_words(evaluations.with_columns(four)) == "k = 2 to 4 of 8"
    assert frames.k_in_words(evaluations.filter(~frames.FEW)) == ""
