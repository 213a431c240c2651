"""When each trial ran: the time between its start and its end in which its study did not stand still.

A study keeps no record of its drivers' times, but its files tell. Each evaluation writes its outcomes once and knows
the seconds of training before it: more time between two of them is time in which nothing trained, drawn right after
the first, for nothing tells where it lay. A trial that is taken up again gets its `config.yaml` written anew. Where
files were copied without their times, they tell nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from study.results import StudyResults, TrialResult

STILL = 5.0
"""Seconds between two evaluations without training from which on the trial stood still: a process died and was started
again, or the study was stopped."""
SCHEMA = {"trial": pl.Int64, "began": pl.Datetime("us"), "ended": pl.Datetime("us")}


def spans(results: StudyResults, *, now: datetime) -> pl.DataFrame:
    """One row of `SCHEMA` for each time that a trial ran without a break, in order; `now` ends those that run."""
    rows = [
        (trial.number, began, ended)
        for trial in results.trials
        if trial.started is not None
        for began, ended in _of(trial, trial.started, None if results.driver is None else now)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def lanes(times: Iterable[tuple[datetime, datetime]]) -> list[int]:
    """The lane (from 1) of each time between a start and an end, in the order of the starts: the first that is free."""
    free_from: list[datetime] = []
    taken = []
    for started, ended in times:
        lane = next((i for i, since in enumerate(free_from) if since <= started), len(free_from))
        free_from[lane : lane + 1] = [ended]
        taken.append(lane + 1)
    return taken


def _of(trial: TrialResult, started: datetime, now: datetime | None) -> list[tuple[datetime, datetime]]:
    last = trial.ended or now
    trained = trial.evaluations[-1].seconds if trial.evaluations else 0.0
    if last is not None and (last - started).total_seconds() - trained < STILL:
        return [(started, last)]
    marks = _marks(trial, started, last)
    if marks is None:
        return [(started, last or started + timedelta(seconds=trained))]
    taken_up = _written(trial.directory / "config.yaml")
    if last is None:  # stopped with its driver: it ran as long as it wrote
        signs = [taken_up, _written(trial.directory / "metrics.jsonl"), *(when for when, _ in marks)]
        known = [each for each in signs if each is not None and each >= started]
        last = max(known) if marks and known else started + timedelta(seconds=trained)
    found, begun, still = [], started, timedelta(seconds=STILL)
    if taken_up is not None and started + still < taken_up <= (marks[0][0] if marks else last):
        begun = taken_up  # after a stop before its first evaluation: how far it had come is not known
    (before, clock), *rest = marks or [(started, 0.0)]
    for when, seconds in rest:
        training = timedelta(seconds=seconds - clock)
        if when - before - training > still:
            found.append((begun, before))
            begun = taken_up if taken_up is not None and before < taken_up < when else when - training
        before, clock = when, seconds
    if marks and taken_up is not None and before + still < taken_up < last:
        found.append((begun, before))
        begun = taken_up
    return [*found, (begun, max(begun, last))]


def _marks(trial: TrialResult, started: datetime, last: datetime | None) -> list[tuple[datetime, float]] | None:
    """When each evaluation was written, and the seconds of training until it; None where the times cannot be right."""
    written = [
        (_written(trial.directory / "outcomes" / f"step-{each.step:06d}.parquet"), each.seconds)
        for each in trial.evaluations
    ]
    marks = [(when, seconds) for when, seconds in written if when is not None]
    slack = timedelta(seconds=1)
    inside = all(started <= when and (last is None or when <= last + slack) for when, _ in marks)
    ordered = all(one[0] < other[0] for one, other in itertools.pairwise(marks))
    return marks if inside and ordered else None


def _written(path: Path) -> datetime | None:
    """When a file was written last, on the clock that Optuna notes a trial's start by."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime)
    except OSError:
        return None
