from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dashboards import importance
from study.results import StudyResults, read_study
from tests.dashboards.synthetic import write_study


def steered_by_rate(results: StudyResults) -> StudyResults:
    """Every trial complete, its value a function of the learning rate alone."""
    trials = tuple(
        dataclasses.replace(trial, state="COMPLETE", value=trial.params["optimizer.learning_rate"] * 100)
        for trial in results.trials
    )
    return dataclasses.replace(results, trials=trials)


def test_the_parameter_that_decides_is_the_most_important(tmp_path: Path) -> None:
    """PED-ANOVA looks at the best tenth only: with a dozen trials that is one, which shows nothing."""
    many = read_study(write_study(tmp_path / "many", trials=60))
    frame = importance.importance(steered_by_rate(many))
    for (_,), own in frame.group_by("method"):
        assert own.sort("importance")["parameter"][-1] == "optimizer.learning_rate"
        assert own["importance"].sum() == pytest.approx(1)
    assert set(frame["method"]) == {"fANOVA", "PED-ANOVA"}


def test_too_few_complete_trials_give_no_importance(finished: StudyResults) -> None:
    few = dataclasses.replace(
        steered_by_rate(finished), trials=steered_by_rate(finished).trials[: importance.FEWEST - 1]
    )
    assert importance.importance(few).is_empty()


def test_a_control_that_lacks_a_parameter_is_left_out(finished: StudyResults) -> None:
    results = steered_by_rate(finished)
    partial = dataclasses.replace(results.trials[0], params={"fipo.half_life": 32.0})
    results = dataclasses.replace(results, trials=(partial, *results.trials[1:]))
    assert [trial.number for trial in importance.usable(results)] == [trial.number for trial in results.trials[1:]]
