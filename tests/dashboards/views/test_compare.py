"""The comparison of trials: at which step, against whom, and what differs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from dashboards import frames, text
from study.paired import common
from study.results import StudyResults
from tests.dashboards.pages import page


def test_more_than_two_trials_are_compared_with_the_control(finished: StudyResults) -> None:
    app = page(finished, "compare")
    scores = app.dataframe[0].value
    assert len(scores) > 2
    against = next(box for box in app.selectbox if box.label == "Against")
    assert against.value == 0
    assert scores.loc[scores["label"] == "DAPO (#0)", "difference"].isna().all()
    assert scores["difference"].notna().sum() == len(scores) - 1


def test_more_trials_than_are_shown_are_named(finished: StudyResults) -> None:
    app = page(finished, "compare", trials=[frames.label(trial) for trial in finished.trials[:10]])
    said = [each.value.replace("\\", "") for each in app.caption]
    assert "Of 10 chosen trials the first 8 are shown, without #8, #9." in said
    assert len(app.dataframe[0].value) <= 8


def test_trials_that_differ_beside_the_space_alone_are_compared(finished: StudyResults, tmp_path: Path) -> None:
    """Two controls, before a first trial is sampled or in a study of nothing else."""
    trials = []
    for trial, beside in zip(finished.trials[:2], ({}, {"fipo.clip_high": 0.2}), strict=True):
        directory = tmp_path / f"{trial.number}"
        shutil.copytree(trial.directory, directory)
        config = yaml.safe_load((finished.trials[0].directory / "config.yaml").read_text())
        config["fipo"] |= {"clip_high": 0.2} if beside else {}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        trials.append(
            dataclasses.replace(
                trial, params=finished.trials[0].params, control=f"c{trial.number}", beside=beside, directory=directory
            )
        )
    app = page(dataclasses.replace(finished, trials=tuple(trials)), "compare")
    settings = app.dataframe[1].value
    assert settings["parameter"].to_list() == [text.label("fipo.clip_high")]
    overview = page(dataclasses.replace(finished, trials=tuple(trials[:1])), "overview")
    (line,) = [each.value for each in overview.markdown if each.value.startswith("Best configuration")]
    assert "life τ" in line and "discount γ" in line


def test_complete_trials_are_compared_at_their_end_and_a_pruned_one_only_when_chosen(finished: StudyResults) -> None:
    app = page(finished, "compare")
    assert set(app.dataframe[0].value["state"]) == {"complete"}
    assert any("Compared at training step 40," in each.value for each in app.markdown)
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    app = page(finished, "compare", trials=["DAPO (#0)", "#1", f"#{pruned.number}"])
    (warning,) = [each.value.replace("\\", "") for each in app.warning]
    assert f"training step {pruned.pruned_at}," in warning and f"#{pruned.number} (pruned) comes no further" in warning
    scores = app.dataframe[0].value.set_index("label")
    then = next(each for each in finished.trials[0].evaluations if each.step == pruned.pruned_at)
    assert scores.loc["DAPO (#0)", "accuracy"] == pytest.approx(100 * then.scores[0].accuracy)


def test_a_trial_that_was_not_evaluated_after_training_began_is_left_out_by_name(finished: StudyResults) -> None:
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    app = page(finished, "compare", trials=["DAPO (#0)", "#1", f"#{pruned.number}"], set="sums_report")
    assert f"#{pruned.number}" in app.info[0].value.replace("\\", "")
    assert app.dataframe[0].value["label"].to_list() == ["DAPO (#0)", "#1"]


def test_problems_of_a_race_that_ended_early_are_compared_by_their_rates(raced: StudyResults) -> None:
    app = page(raced, "compare", trials=["#1", "#2"], against="#2")
    assert any("8 responses per problem, of #1 2" in each.value.replace("\\", "") for each in app.caption)
    rates = app.dataframe[-1].value[["#1", "#2"]]
    assert rates.max().max() <= 1
    step, at_step = common(raced, "sums_select", [1, 2])  # type: ignore[misc]
    one, two = at_step[1], at_step[2]
    assert (step, one.samples, two.samples) == (10, 2, 8)
    scores = app.dataframe[0].value.set_index("label")
    assert scores.loc["#1", "difference"] == pytest.approx(100 * (rates["#1"].mean() - rates["#2"].mean()))
    assert scores.loc["#1", "sampling_error"] == pytest.approx(100 * one.sampling_error)
    assert page(raced, "overview").dataframe[0].value.set_index("label").loc["#1", "samples"] == 2
    pruned = page(raced, "pruning").dataframe[0].value.set_index("label")
    assert pruned.loc["#1", "samples"] == 2
