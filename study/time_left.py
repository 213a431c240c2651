"""How long a study will still take, for the terminal and the dashboard.

It goes by what trials have taken by their own clocks, not by how long a driver has run: a study that was resumed
neither slept all night nor has to begin anew.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from study.budget import devices
from study.results import RAN, StudyResults, TrialResult

_LONG_SECONDS = 10.0
"""An evaluation that takes longer than this is told when it begins."""


class TimeLeft(NamedTuple):
    """How long a study will still run."""

    seconds: float
    budget: str | None
    """The key of the budget that ends it before its trials have ended; None where they end."""

    def __str__(self) -> str:
        """``about 12 min left``, or ``about 5 min left, then budget.hours ends it``."""
        return f"about {duration(self.seconds)} left" + (f", then {self.budget} ends it" if self.budget else "")


def time_left(results: StudyResults) -> TimeLeft | None:
    """None before a step is done, without a driver, and when all trials have ended."""
    if results.driver is None or results.ended >= results.planned:
        return None
    if (seconds := seconds_left(results)) is None:
        return None
    budgets = (TimeLeft(max(0.0, left), key) for key, left in _budgets_left(results))
    return min([TimeLeft(seconds, None), *budgets], key=lambda each: each.seconds)


def duration(seconds: float) -> str:
    """Seconds as 45 s, 12 min, 3 h 05 min, 14 d 3 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def seconds_left(results: StudyResults) -> float | None:
    """Expected seconds until all planned trials have ended; None before a step is done.

    As many run at a time as have so far (`at_a_time`), `concurrency` at most. Each is expected to do as many steps as
    those that completed or that the pruner stopped, at their pace, and to take as long to start; all of them where it
    has come further than that, or confirms another. How soon one failed, collapsed or was stopped by hand says nothing
    of the others.
    """
    ran = [trial for trial in results.trials if trial.state in RAN]
    running = [trial for trial in results.trials if trial.state == "RUNNING"]
    steps = {trial.number: trial.steps_done for trial in (*ran, *running)}
    measured = ran if any(steps[trial.number] for trial in ran) else running
    done = sum(steps[trial.number] for trial in measured)
    if not done:
        return None
    pace = sum(trial.usage.seconds for trial in measured) / done
    whole, own = results.spec.steps, [each for each in ran if each.stop_reason is None and each.confirms is None]
    usual = sum(steps[trial.number] for trial in own) / len(own) if own else 0.0
    start = _start_up(ran, since=datetime.fromtimestamp(results.driver.began if results.driver else 0))

    def expected(trial: TrialResult) -> float:
        return usual if trial.confirms is None and steps[trial.number] < usual else whole

    busy = [(expected(each) - steps[each.number]) * pace + (start if each.starting else 0.0) for each in running]
    lanes = _lanes(results)
    free = busy + [0.0] * (lanes - len(busy))
    heapq.heapify(free)
    waiting = results.planned - results.ended - len(running)
    confirming = [trial for trial in results.trials if trial.confirms is not None and trial.state != "WAITING"]
    last = min(waiting, max(0, results.planned - results.searching - len(confirming)))  # which no pruner stops
    for to_do in [usual or whole] * (waiting - last) + [whole] * last:
        heapq.heapreplace(free, free[0] + start + to_do * pace)
    return max(*free, *last_evaluations(results).values(), 0.0)


def _budgets_left(results: StudyResults) -> Iterator[tuple[str, float]]:
    """Seconds until a budget of time ends the study, by its key."""
    budget = results.spec.budget
    if budget.hours is not None and results.driver is not None and results.driver.began:
        yield "budget.hours", results.driver.began + 3600 * budget.hours - time.time()
    if budget.gpu_hours is not None:
        a_trial = devices(results.spec.resources)
        seconds = sum(trial.usage.seconds for trial in results.trials)
        left = budget.gpu_hours - a_trial.hours(seconds)
        yield "budget.gpu_hours", left / a_trial.hours(1) / _lanes(results)


def _lanes(results: StudyResults) -> int:
    """Trials at a time from now on."""
    running = sum(trial.state == "RUNNING" for trial in results.trials)
    return max(1, running, min(results.spec.concurrency, at_a_time(results.trials)))


def last_evaluations(results: StudyResults) -> dict[int, float]:
    """Running trials at their last step, whose evaluation draws everything, and its seconds where they are many."""
    found = {}
    for trial in results.trials:
        if trial.state != "RUNNING" or not trial.evaluations or trial.steps_done < results.spec.steps - 1:
            continue
        first, last = trial.evaluations[0], trial.evaluations[-1]
        lengths = [score.mean_length for score in trial.scores(results.spec.selecting.name).values()]
        # The base model's is whole too, and all that had been done then. Time grows with the length of responses.
        seconds = first.seconds * (lengths[-1] / lengths[0] if lengths and lengths[0] else 1.0)
        seconds += (last.seconds - first.seconds) / max(last.step, 1)
        if seconds >= _LONG_SECONDS:
            found[trial.number] = seconds
    return found


def at_a_time(trials: Sequence[TrialResult]) -> int:
    """The most trials that have run at a time: what fits, which may be fewer than the study file asks for."""
    begun = [trial for trial in trials if trial.started is not None]
    changes = [(trial.started, 1) for trial in begun] + [(trial.ended or datetime.max, -1) for trial in begun]
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)


def _start_up(ran: Sequence[TrialResult], since: datetime) -> float:
    """Seconds that a trial takes until its clock runs: the least so far, as others waited.

    Of those that began `since` and lost no process: the others stood still in between.
    """
    whole = [
        (trial.ended - trial.started).total_seconds() - trial.usage.seconds
        for trial in ran
        if trial.started is not None and trial.ended is not None and trial.started >= since and not trial.deaths
    ]
    return max(0.0, min(whole, default=0.0))
