"""What a launch shows: the base model being made, the trials, the time left. Plain lines without a terminal."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from study.backup import how_to_go_on
from study.costs import costs
from study.directory import typed
from study.lock import ROOM_AGAIN
from study.output import say
from study.results import ENDED, StudyResults, TrialResult
from study.tables import counted, counts, one_line, trial_table
from study.time_left import last_evaluations, time_left
from study.verdict import failed_controls, verdict

_PERIOD = 1.0


class Display:
    """Watches a launch on `console`, its last word on `errors` if given (the `Watcher` of `study.launch`)."""

    def __init__(self, console: Console, errors: Console | None = None) -> None:
        self._console, self._errors = console, errors or console
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console)
        self._task = self._bar.add_task("Base model", total=1.0)
        self._said = -1
        self._closing: set[int] = set()
        self._waits: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def doing(self, text: str) -> None:
        """Say what begins."""
        self._stop_bar()
        self._say(text)

    def preparing(self, fraction: float, text: str) -> None:
        """Show that the base model is `fraction` done."""
        if not self._console.is_terminal:
            if int(fraction * 10) > self._said:
                self._said = int(fraction * 10)
                self._say(f"Base model {fraction:.0%}: {text}")
            return
        self._bar.start()
        self._bar.update(self._task, completed=fraction, description=text)
        if fraction >= 1:
            self._stop_bar()

    def warn(self, line: str) -> None:
        """Say what is allowed, and hardly meant."""
        self._stop_bar()
        self._say(f"Warning: {line}", "yellow")

    def running(self, directory: Path, snapshot: Callable[[], StudyResults], fit: int) -> None:
        """Show the trials from now on, on a thread of its own."""
        self._stop_bar()
        first = snapshot()
        wanted, why = first.spec.concurrency, ""
        if wanted > fit:
            why = f" (concurrency is {wanted}, and no more fit)"
        elif fit > wanted and first.planned - first.ended > wanted:
            where = "" if first.spec.resources.ray_address is None else " on the cluster with nothing beside them"
            why = f" ({fit} fit{where}: {typed('set', directory)} concurrency={fit})"
        at_a_time = counted(min(wanted, fit), "trial")
        self._say(f"Study {directory}, {at_a_time} at a time{why}; each loads its model first")
        before = {trial.number: (trial.state, trial.deaths) for trial in first.trials if trial.state in ENDED}
        if before:
            self._say(f"{counted(len(before), 'trial')} {'has' if len(before) == 1 else 'have'} ended before")
        self._thread = threading.Thread(target=self._watch, args=(snapshot, before), daemon=True)
        self._thread.start()

    def ended(self, reason: str | None) -> None:
        """Show the last state and stop; `reason` is why the study stopped before all was done."""
        self._halt()
        if reason is not None:
            self._say(f"Stopping: {reason}")

    def _halt(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def last_word(self, line: str) -> None:
        """Say with which error the process ends."""
        say(self._errors, line, "red")

    def close(self) -> None:
        """Give the terminal back, whatever happened before."""
        self._stop_bar()
        self._halt()

    def _stop_bar(self) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def _watch(self, snapshot: Callable[[], StudyResults], shown: dict[int, tuple[str, int]]) -> None:
        if not self._console.is_terminal:
            while not self._stop.wait(_PERIOD):
                self._print_changes(snapshot(), shown)
            self._print_changes(snapshot().at_rest(), shown)
            return
        # Not redirecting: what others print belongs in driver.log, not between the rows.
        with Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
            while True:
                stopping = self._stop.wait(_PERIOD)
                results = snapshot().at_rest() if stopping else snapshot()
                live.update(_screen(results, self._console), refresh=True)
                if stopping:
                    return

    def _print_changes(self, results: StudyResults, shown: dict[int, tuple[str, int]]) -> None:
        for trial in results.trials:
            sampled = len(trial.params) == len(results.spec.space)  # not yet in the moment it is asked for
            news = trial.state, trial.deaths
            if trial.state == "WAITING" or not sampled or shown.get(trial.number) == news:
                continue
            shown[trial.number] = news
            line = one_line(results, trial)
            if trial.state in ENDED:
                line += f"  [{counts(results)}{_left(results)}]"
            self._say(line)
        for number, seconds in last_evaluations(results).items():
            if number not in self._closing:
                self._closing.add(number)
                self._say(_closing(number, seconds))
        if results.driver is not None and results.waits != self._waits:
            self._waits = results.waits
            self._say(results.waits or ROOM_AGAIN)

    def _say(self, line: str, style: str | None = None) -> None:
        say(self._console, line, style)


def _closing(number: int, seconds: float) -> str:
    return f"trial {number} is at its last step and evaluation, about {seconds:.0f} s"


def conclusion(results: StudyResults, directory: Path) -> list[str]:
    """The last lines of a launch: how it ended, the best trial, where everything lies, what to do next."""
    lines = ["", counts(results)]
    if (took := costs(results)) is not None:
        lines.append(f"All trials {took}")
    lines += failed_controls(results)
    left = how_to_go_on(results)  # last, where an early end is looked for
    if results.best is None:
        ended_badly = any(trial.state in ("PRUNED", "FAIL") for trial in results.trials)
        reasons = f"; the reasons: {typed('status', directory)}" if ended_badly else ""
        return [*lines, f"No trial is COMPLETE{reasons}", *left]
    return [
        *lines,
        *verdict(results),
        f"Everything lies in {directory}",
        f"Next: {typed('dashboard', directory)}",
        f"      {typed('export', directory)} --out {shlex.quote(f'{directory.name}-best.yaml')}",
        *left,
    ]


def _left(results: StudyResults) -> str:
    left = time_left(results)
    return f", {left}" if left is not None else ""


def _screen(results: StudyResults, console: Console) -> RenderableType:
    trials = _fitting(results, max(4, console.height - 8))
    hidden = len(results.trials) - len(trials)
    more = f", {hidden} not shown" if hidden else ""
    closing = "".join(f"; {_closing(*each)}" for each in last_evaluations(results).items())
    waits = f"; {results.waits}" if results.waits else ""
    last = Text(f"{counts(results)}{more}{_left(results)}{closing}{waits}", style="bold")
    return Group(trial_table(results, trials, console), last)


def _fitting(results: StudyResults, rows: int) -> list[TrialResult]:
    """The trials to show when not all fit: the best, the running, then the newest."""
    if len(results.trials) <= rows:
        return list(results.trials)
    best = results.best
    ranked = sorted(
        results.trials,
        key=lambda trial: (best is None or trial.number != best.number, trial.state != "RUNNING", -trial.number),
    )
    return sorted(ranked[:rows], key=lambda trial: trial.number)
