from __future__ import annotations

import dataclasses
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dashboards import spans
from study.lock import Driver
from study.results import StudyResults, TrialResult

NOON = datetime(2026, 1, 1, 12)
Spans = list[tuple[float, float]]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def trial(finished: StudyResults, tmp_path: Path) -> TrialResult:
    """Trained for 100 s between noon and 12:10, with evaluations after 0, 50 and 100 s, stopped after the second."""
    evaluations = finished.trials[0].evaluations[:3]
    evaluations = tuple(each.model_copy(update={"seconds": 50.0 * i}) for i, each in enumerate(evaluations))
    made = dataclasses.replace(
        finished.trials[0], directory=tmp_path, started=NOON, ended=at(601), evaluations=evaluations
    )
    (tmp_path / "outcomes").mkdir()
    write(made, [8, 58, 600], taken_up=542)
    return made


def write(trial: TrialResult, outcomes: list[float], *, taken_up: float, metrics: float = 0.0) -> None:
    """Files with these times, seconds after noon."""
    steps = [trial.directory / "outcomes" / f"step-{each.step:06d}.parquet" for each in trial.evaluations]
    times = [*zip(steps, outcomes, strict=False), (trial.directory / "config.yaml", taken_up),
             (trial.directory / "metrics.jsonl", metrics)]  # fmt: skip
    for path, seconds in times:
        path.touch()
        os.utime(path, (at(seconds).timestamp(),) * 2)


def found(finished: StudyResults, trial: TrialResult, *, driven: bool = False, now: float = 1000) -> Spans:
    driver = Driver("host", 1) if driven else None
    frame = spans.spans(dataclasses.replace(finished, trials=(trial,), driver=driver), now=at(now))
    return [tuple((each - NOON).total_seconds() for each in row[1:]) for row in frame.rows()]  # type: ignore[misc]


def test_time_without_training_between_two_evaluations_is_a_break(finished: StudyResults, trial: TrialResult) -> None:
    assert found(finished, trial) == [(0, 58), (542, 601)]


def test_a_break_that_a_new_process_ended_reaches_to_where_training_went_on(
    finished: StudyResults, trial: TrialResult
) -> None:
    write(trial, [8, 58, 600], taken_up=1)
    assert found(finished, trial) == [(0, 58), (550, 601)]


def test_one_that_was_stopped_before_its_first_evaluation_counts_from_where_it_was_taken_up(
    finished: StudyResults, trial: TrialResult
) -> None:
    write(trial, [508, 558, 608], taken_up=500)
    assert found(finished, dataclasses.replace(trial, ended=at(609))) == [(500, 609)]
    young = dataclasses.replace(trial, state="RUNNING", ended=None, evaluations=())
    assert found(finished, young, driven=True, now=620) == [(500, 620)]


def test_one_that_trained_all_the_time_has_no_break(finished: StudyResults, trial: TrialResult) -> None:
    write(trial, [8, 58, 110], taken_up=1)
    assert found(finished, dataclasses.replace(trial, ended=at(110))) == [(0, 110)]


@pytest.mark.parametrize("outcomes", [[900, 901, 902], [-9, 58, 600], [58, 58, 58]])
def test_times_that_cannot_be_the_trials_own_tell_nothing(
    finished: StudyResults, trial: TrialResult, outcomes: list[float]
) -> None:
    write(trial, outcomes, taken_up=outcomes[-1])
    assert found(finished, trial) == [(0, 601)]


def test_a_running_trial_reaches_to_now_and_its_last_break_to_where_it_was_taken_up(
    finished: StudyResults, trial: TrialResult
) -> None:
    running = dataclasses.replace(trial, state="RUNNING", ended=None)
    assert found(finished, running, driven=True, now=640) == [(0, 58), (542, 640)]
    write(trial, [8, 58, 600], taken_up=700)
    assert found(finished, running, driven=True, now=710) == [(0, 58), (550, 600), (700, 710)]


def test_a_stopped_trial_reaches_as_far_as_it_wrote(finished: StudyResults, trial: TrialResult) -> None:
    stopped = dataclasses.replace(trial, state="RUNNING", ended=None)
    write(trial, [8, 58, 600], taken_up=542, metrics=620)
    assert found(finished, stopped) == [(0, 58), (542, 620)]
    for path in (trial.directory / "outcomes").iterdir():
        path.unlink()
    assert found(finished, stopped) == [(0, 100)]


def test_one_that_has_not_begun_has_no_span(finished: StudyResults, trial: TrialResult) -> None:
    assert found(finished, dataclasses.replace(trial, started=None)) == []
