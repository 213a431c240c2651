"""Trials in words and tables, for the terminal. Model text never comes here, and markup in names is escaped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from study.against import mean_lengths, seed_means_reported
from study.clock import with_zone
from study.costs import drawn_by_racing, spared_by_pruning, spent
from study.directory import typed
from study.ending import ending
from study.metric import metric_value
from study.results import StudyResults, TrialResult
from study.space import few_digits
from study.spec import StudySpec
from study.time_left import time_left
from trainer import saturation
from trainer.digits import decimal
from trainer.records import Evaluation, SetScore

STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "RUNNING": "cyan", "WAITING": "dim"}


def trial_table(results: StudyResults, trials: Sequence[TrialResult], console: Console) -> Table:
    """`trials` of a study: state, step, metric with both errors, mean response length, and swept values.

    On a narrow `console` the last of the swept keys are left out, and named below it.
    """
    keys, left_out = list(results.spec.space), list[str]()
    unbounded = console.options.update_width(10_000)  # a measure is otherwise cut at the console's own width
    while True:
        table = _table(results, trials, keys)
        if not keys or console.measure(table, options=unbounded).maximum <= console.width:
            if left_out:
                table.caption, table.caption_justify = f"not shown for want of width: {', '.join(left_out)}", "left"
            return table
        left_out.insert(0, keys.pop().split(".")[-1])


def _table(results: StudyResults, trials: Sequence[TrialResult], keys: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    errors = "\n±sampling ±problems" if results.spec.metric == "avg@k" else ""  # known of avg@k alone
    table.add_column(f"{results.metric_name}{errors}", justify="right", no_wrap=True)
    table.add_column("length\n(tokens)", justify="right", no_wrap=True)
    for key in keys:
        table.add_column("\n".join(key.split(".")[-1].rsplit("_", 1)), justify="right", no_wrap=True)
    best = results.best
    for trial in trials:
        mark = " *" if best is not None and trial.number == best.number else ""
        name = label(trial)
        table.add_row(
            f"{trial.number}{mark}",
            " ".join(
                each
                for each in (f"[{STYLES[trial.state]}]{state(results, trial)}[/]", escape(name or ""), lost(trial))
                if each
            ),
            f"{trial.steps_done}/{results.spec.steps}",
            accuracy(results.spec, trial),
            length(results.spec, trial),
            *(escape(setting(trial, key)) for key in keys),
        )
    return table


def state(results: StudyResults, trial: TrialResult) -> str:
    """The trial's state in words. STARTING waits for room on the cluster or loads its model."""
    known = results.state(trial)
    if known == "RUNNING" and trial.starting:
        return "STARTING"
    return known + (f" at {trial.pruned_at}" if trial.pruned_at is not None else "")


def lost(trial: TrialResult) -> str:
    """That processes of a trial died; nothing when none has."""
    return f"lost a process {trial.deaths} times" if trial.deaths > 1 else "lost a process" if trial.deaths else ""


def label(trial: TrialResult) -> str | None:
    """What a trial is when it is not sampled: a control, enqueued later, or the confirmation of another."""
    return f"confirms {trial.confirms}" if trial.confirms is not None else trial.control or trial.enqueued


def named(trial: TrialResult) -> str:
    """For example ``trial 3``, ``trial 0 (DAPO)``."""
    name = label(trial)
    return f"trial {trial.number}" + (f" ({name})" if name else "")


def chosen_among(results: StudyResults) -> str:
    """What the best is the best of, for example ``9 COMPLETE among 14 trials``: confirmations chose nothing, nor did
    those that repeat another, ``4 configurations in 9 COMPLETE among 14 trials``."""
    own = [trial for trial in results.trials if trial.confirms is None]
    complete, repeats = sum(trial.state == "COMPLETE" for trial in own), len(results.repeats)
    some = f"{counted(complete - repeats, 'configuration')} in " if repeats else ""
    return f"{some}{complete} COMPLETE among {len(own)} trials"


def setting(trial: TrialResult, key: str) -> str:
    """The value of a swept key; nothing for a trial that has none yet."""
    return few_digits(trial.params[key]) if key in trial.params else ""


def accuracy(spec: StudySpec, trial: TrialResult) -> str:
    """The latest metric with its two standard errors, which are those of avg@k; nothing before the first evaluation.

    Where responses show no spread it is a bound instead.

    Where evaluations race its k stands beside it, for it may be less than the metric's name says.
    """
    score = trial.newest(spec.selecting.name)
    if score is None:
        return ""
    value = saturation.short(score) if spec.metric == "avg@k" else decimal(metric_value(score, spec.metric))
    return value + (f" (k = {score.samples})" if spec.selecting.first_look else "")


def length(spec: StudySpec, trial: TrialResult) -> str:
    """The latest mean response length in tokens."""
    score = trial.newest(spec.selecting.name)
    return "" if score is None else f"{score.mean_length:.1f}"


def one_line(results: StudyResults, trial: TrialResult) -> str:
    """A trial in one plain line, for logs."""
    parts = [named(trial), state(results, trial).replace(" at ", " at step ")]
    if (value := accuracy(results.spec, trial)) != "":
        parts.append(f"{results.metric_name} {value}, length {length(results.spec, trial)}")
    parts += [reason for reason in (lost(trial), trial.fail_reason, trial.stop_reason) if reason]
    parts.append(", ".join(f"{key} {few_digits(value)}" for key, value in trial.params.items()))
    # A confirmation is told apart by its seed; what its configuration has beside space stands with the one confirmed.
    parts.append(beside_space(trial.beside) if trial.confirms is None else f"seed {trial.beside.get('seed')}")
    return "  ".join(part for part in parts if part)


def beside_space(values: Mapping[str, object]) -> str:
    """Values that only this trial was given; nothing when there are none."""
    given = ", ".join(f"{key} {few_digits(value)}" for key, value in values.items())
    return f"not in space: {given}" if given else ""


def counted(number: float, thing: str) -> str:
    """For example ``1 trial``, ``14 trials``."""
    return f"{number:g} {thing}" + ("" if number == 1 else "s")


def counts(results: StudyResults) -> str:
    """For example ``5 of 14 trials: 3 COMPLETE, 2 PRUNED, 2 RUNNING``."""
    states = [state(results, trial).split()[0] for trial in results.trials]
    known = [f"{states.count(each)} {each}" for each in (*STYLES, "STARTING", "STOPPED") if each in states]
    return f"{results.ended} of {results.planned} trials" + (": " + ", ".join(known) if known else "")


def undriven(results: StudyResults) -> str | None:
    """That trials are left and nobody runs them, why as far as it is known, and what to do; None while someone does,
    and at the end."""
    left = results.planned - results.ended
    if results.driver is not None or left <= 0:
        return None
    why = ending(results.directory)
    what = "No process drives the study" if why is None else f"The study ended early ({why})"
    are = "is" if left == 1 else "are"
    return f"{what} and {counted(left, 'trial')} {are} left; go on with: {typed('resume', results.directory)}"


def as_json(results: StudyResults) -> str:
    """The study as one JSON object; each trial with its latest evaluation."""
    trials = []
    for trial in results.trials:
        data = dataclasses.asdict(trial) | {
            "state": results.state(trial),
            "steps_done": trial.steps_done,
            "directory": str(trial.directory.absolute()),
            "started": with_zone(trial.started),
            "ended": with_zone(trial.ended),
            "newest_step_at": with_zone(_newest_step_at(trial)),
        }
        del data["evaluations"]
        data["evaluation"] = evaluation_row(trial.evaluations[-1]) if trial.evaluations else None
        trials.append(data)
    best, drawn, left = results.best, drawn_by_racing(results), time_left(results)
    reported, lengths = seed_means_reported(results), mean_lengths(results)
    whole = {
        "name": results.spec.name,
        "directory": str(results.directory.absolute()),
        "metric": results.metric_name,
        "trials_planned": results.planned,
        "trials_ended": results.ended,
        "finished": results.ended == results.planned,
        "best": best.number if best else None,
        "confirmed": [
            {
                "trial": each.number,
                "seeds": len(each.fresh),
                "lost": list(each.lost),
                "mean": each.mean if each.fresh else None,
                "mean_length": lengths[each.number].mean if each.number in lengths else None,
                "seed_error": each.seed_error,
                "only_reported": {name: mean._asdict() for name, mean in reported.get(each.number, {}).items()},
            }
            for each in results.evidence
            if each.tested
        ],
        "driver": str(results.driver) if results.driver else None,
        "ending": ending(results.directory),
        "waits": results.waits,
        "left": left._asdict() if left is not None else None,
        "usage": spent(results),
        "spared_by_pruning": spared_by_pruning(results),
        "evaluation_responses": dict(zip(("drawn", "whole"), drawn, strict=True)) if drawn else None,
        "trials": trials,
    }
    return json.dumps(whole, default=str, indent=2)


def evaluation_row(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation for other programs, each set with its `bounds`."""
    scores = [score.model_dump(mode="json") | bounds(score) for score in evaluation.scores]
    return evaluation.model_dump(mode="json", exclude={"scores"}) | {"scores": scores}


def bounds(score: SetScore) -> dict[str, float | None]:
    """Errors that are 0 for want of spread are none; the 95 % bounds of the accuracy, over sampling, stand for them."""
    found = {each.name: each.bounds for each in saturation.errors(score) if each.bounds}
    row: dict[str, float | None] = dict(zip(("low_95", "high_95"), found.get("sampling", (None, None)), strict=True))
    return row | {{"sampling": "sampling_error", "problems": "problem_error"}[name]: None for name in found}


def _newest_step_at(trial: TrialResult) -> datetime | None:
    """When the trial finished its newest training step, by the clock of the file system; None before the first."""
    try:
        return datetime.fromtimestamp((trial.directory / "metrics.jsonl").stat().st_mtime)
    except OSError:
        return None
