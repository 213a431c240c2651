"""Trials in words and tables, for the terminal. Model text never comes here, and markup in names is escaped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from study.metric import metric_value, selecting_score
from study.results import StudyResults, TrialResult
from study.spec import StudySpec
from trainer.records import SetScore

STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "RUNNING": "cyan", "WAITING": "dim"}


def trial_table(results: StudyResults, trials: Sequence[TrialResult], console: Console) -> Table:
    """`trials` of a study: state, step, metric with both errors, mean response length, and swept values.

    On a narrow `console` the last of the swept keys are left out.
    """
    keys = list(results.spec.space)
    unbounded = console.options.update_width(10_000)  # a measure is otherwise cut at the console's own width
    while True:
        table = _table(results, trials, keys)
        if not keys or console.measure(table, options=unbounded).maximum <= console.width:
            return table
        keys.pop()


def _table(results: StudyResults, trials: Sequence[TrialResult], keys: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column(f"{results.metric_name}\n±sampling ±problems", justify="right", no_wrap=True)
    table.add_column("length\n(tokens)", justify="right", no_wrap=True)
    for key in keys:
        table.add_column("\n".join(key.split(".")[-1].rsplit("_", 1)), justify="right", no_wrap=True)
    best = results.best
    for trial in trials:
        mark = " *" if best is not None and trial.number == best.number else ""
        state = trial.state + (f" at {trial.pruned_at}" if trial.pruned_at is not None else "")
        label = f" {escape(trial.control)}" if trial.control else ""
        table.add_row(
            f"{trial.number}{mark}",
            f"[{STYLES[trial.state]}]{state}[/]{label}",
            f"{trial.steps_done}/{steps(results.spec)}",
            accuracy(results.spec, trial),
            length(results.spec, trial),
            *(escape(number(trial.params.get(key))) for key in keys),
        )
    return table


def steps(spec: StudySpec) -> int:
    """Training steps of every trial."""
    return int(spec.trainer["steps"])


def number(value: object) -> str:
    """A swept value in few digits; nothing for None."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def accuracy(spec: StudySpec, trial: TrialResult) -> str:
    """The latest metric with its two standard errors, which are those of avg@k; nothing before the first evaluation."""
    score = _latest(spec, trial)
    if score is None:
        return ""
    value = f"{metric_value(score, spec.metric):.3f}"
    return f"{value} ±{score.sampling_error:.3f} ±{score.problem_error:.3f}" if spec.metric == "avg@k" else value


def length(spec: StudySpec, trial: TrialResult) -> str:
    """The latest mean response length in tokens."""
    score = _latest(spec, trial)
    return "" if score is None else f"{score.mean_length:.1f}"


def one_line(results: StudyResults, trial: TrialResult) -> str:
    """A trial in one plain line, for logs."""
    parts = [f"trial {trial.number}" + (f" ({trial.control})" if trial.control else ""), trial.state]
    if trial.pruned_at is not None:
        parts[-1] += f" at step {trial.pruned_at}"
    if (value := accuracy(results.spec, trial)) != "":
        parts.append(f"{results.metric_name} {value}, length {length(results.spec, trial)}")
    if trial.fail_reason:
        parts.append(trial.fail_reason)
    parts.append(", ".join(f"{key} {number(value)}" for key, value in trial.params.items()))
    return "  ".join(part for part in parts if part)


def counts(results: StudyResults) -> str:
    """For example ``5 of 14 trials: 3 COMPLETE, 2 PRUNED, 2 RUNNING``."""
    states = [trial.state for trial in results.trials]
    ended = sum(state in ("COMPLETE", "PRUNED", "FAIL") for state in states)
    known = [f"{states.count(state)} {state}" for state in STYLES if state in states]
    return f"{ended} of {results.spec.trials} trials" + (": " + ", ".join(known) if known else "")


def as_json(results: StudyResults) -> str:
    """The study as one JSON object; each trial with its latest evaluation."""
    trials = []
    for trial in results.trials:
        data = dataclasses.asdict(trial) | {"steps_done": trial.steps_done, "directory": str(trial.directory)}
        del data["evaluations"]
        data["evaluation"] = trial.evaluations[-1].model_dump(mode="json") if trial.evaluations else None
        trials.append(data)
    best = results.best
    whole = {
        "name": results.spec.name,
        "directory": str(results.directory),
        "metric": results.metric_name,
        "trials_planned": results.spec.trials,
        "best": best.number if best else None,
        "trials": trials,
    }
    return json.dumps(whole, default=str, indent=2)


def _latest(spec: StudySpec, trial: TrialResult) -> SetScore | None:
    name = spec.evaluation_config().sets[0].name
    scores = [score for each in trial.evaluations if (score := selecting_score(each, name)) is not None]
    return scores[-1] if scores else None
