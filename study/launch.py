"""Launching and resuming a study: check, make the base model, start Ray, run the trials to their ends."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from study.backup import older_directory, require_known
from study.bridge import Bridge, StudyAborted
from study.check import trainer_configs
from study.clock import now
from study.cluster import engines_apart, places, ray_session, require_place
from study.commands import drop_unanswered
from study.directory import Staging, typed
from study.ending import note_ending
from study.environment import note_environment
from study.files import relative_paths
from study.head import GONE, watched_head
from study.lock import driver_lock
from study.problem_sets import told_of_files
from study.results import StudyResults, collect, find_study
from study.settings import hardly_meant
from study.signals import came, terminated_as_interrupt
from study.spec import StudySpec
from study.storage import driving, edited, edited_files
from study.verdict import failed_controls
from trainer.errors import UserError, root_line

_ASK_SECONDS = 1.0
"""How often the driver asks Ray how many trials fit; each step of Tune wants to know."""


class Watcher(Protocol):
    """Shows a launch to the user. Its methods are called on the main thread, but for `last_word`; `snapshot` on any."""

    def doing(self, text: str) -> None:
        """Something begins that takes seconds and tells nothing itself."""

    def preparing(self, fraction: float, text: str) -> None:
        """The base model is `fraction` done."""

    def warn(self, line: str) -> None:
        """Something is allowed, and hardly meant."""

    def running(self, directory: Path, snapshot: Callable[[], StudyResults], fit: int) -> None:
        """The trials begin, of which `fit` at a time; `snapshot` returns the results so far."""

    def ended(self, reason: str | None) -> None:
        """No trial runs any more; `reason` is why the study stopped before all was done."""

    def last_word(self, line: str) -> None:
        """The process ends right after, with `line` as its error. Called on another thread than the main one, and
        `ended` before it."""


def launch(spec: StudySpec, directory: Path, watcher: Watcher) -> StudyResults:
    """Run all trials of `spec` into `directory`, which must not exist.

    Raises:
        UserError: bad input, and nothing is left behind; or the study was cut short, and can be resumed.
        KeyboardInterrupt: the study can be resumed.
    """
    staging = Staging(spec, directory)
    try:
        watcher.doing("Reading the problems and the model")
        prepare(spec, watcher)
        watcher.doing(_ray_begins(spec))
        with _output_to(staging.log), ray_session(spec.resources) as scratch:
            require_place(spec.resources)
            directory = staging.publish()
            with _resumable(directory), driver_lock(directory, watcher.last_word), driving(spec, directory) as study:
                return _run(Bridge(study, spec, directory), watcher, scratch)
    finally:
        staging.discard()


def resume(directory: Path, watcher: Watcher) -> StudyResults:
    """Go on with the study in `directory`: what was running from its checkpoints, what is finished not again.

    Raises:
        UserError: no study there, another process drives it, or it was cut short again.
        KeyboardInterrupt: the study can be resumed again.
    """
    directory = find_study(directory).absolute()
    spec = StudySpec.from_file(directory / "study.yaml")
    watcher.doing(f"Taking up {directory}: reading its trials, problems and model")
    with _resumable(directory), driver_lock(directory, watcher.last_word), driving(spec, directory) as study:
        for line in drop_unanswered(directory):
            watcher.warn(line)
        if keys := edited(study, spec):
            watcher.warn(
                f"{directory / 'study.yaml'} was edited since the study began: {', '.join(keys)}. Trials"
                " before and after cannot be compared; write back what was there, or launch another study"
            )
        for path in edited_files(study, spec):
            watcher.warn(
                f"{path} was edited since the study began. Trials before and after cannot be compared; put back what it"
                " held, or launch another study"
            )
        before = collect(directory, spec, study.get_trials(deepcopy=False))
        require_known(before)
        if line := older_directory(before):
            watcher.warn(line)
        bridge = Bridge(study, spec, directory)
        found = _results(bridge)
        if bridge.done:
            return found
        for line in failed_controls(found):
            watcher.warn(line)
        prepare(spec, watcher)
        watcher.doing(_ray_begins(spec))
        with (
            (directory / "driver.log").open("a", encoding="utf-8") as log,
            _output_to(log),
            ray_session(spec.resources) as scratch,
        ):
            require_place(spec.resources)
            return _run(bridge, watcher, scratch)


def prepare(spec: StudySpec, watcher: Watcher) -> None:
    """Make or find everything that the trials read. Raises UserError for a model or problem file that is not there,
    and for problems that the model cannot read."""
    for line in hardly_meant(spec):
        watcher.warn(line)
    configs = trainer_configs(spec)
    if spec.resources.ray_address is not None:
        for line in relative_paths(configs, spec):
            raise UserError(line)
    told = told_of_files(configs, spec, hub=True)
    for line in told.mistakes:
        raise UserError(line)
    for line in told.warnings:
        watcher.warn(line)
    if any(each.model.path == "embedded" for each in configs):
        from trainer.base_model import ensure_base_model

        ensure_base_model(watcher.preparing)


def _ray_begins(spec: StudySpec) -> str:
    address = spec.resources.ray_address
    return "Starting Ray, which takes some seconds" if address is None else f"Connecting to Ray at {address}"


def _run(bridge: Bridge, watcher: Watcher, scratch: Path) -> StudyResults:
    import ray

    from study.trial import StudyTrial
    from study.tuner import run_trials

    if bridge.spec.resources.ray_address == "auto":
        watcher.doing(f"Found the Ray at {ray.get_runtime_context().gcs_address}")
    fits, asked = places(bridge.spec.resources), time.monotonic()

    def concurrency() -> int:
        nonlocal fits, asked
        if time.monotonic() - asked >= _ASK_SECONDS:
            fits, asked = places(bridge.spec.resources), time.monotonic()
        return min(bridge.spec.concurrency, fits)

    def last_word() -> None:
        if came():
            _interrupted(bridge)
            line = f"Interrupted; go on with: {typed('resume', bridge.directory)}"
        else:
            _cut_short(bridge, GONE)
            line = _how_to_go_on(bridge.directory, GONE)
        watcher.ended(bridge.ending)
        bridge.notifier.close()
        watcher.last_word(line)

    note_environment(bridge.directory)
    note_ending(bridge.directory, None)
    if line := engines_apart(bridge.spec.resources, bridge.spec.engine_width):
        watcher.warn(line)
    watcher.running(bridge.directory, lambda: _results(bridge), fits)
    try:
        with terminated_as_interrupt(), watched_head(last_word):
            run_trials(bridge, StudyTrial, concurrency=concurrency, scratch=scratch)
        if bridge.done:
            bridge.ending = None  # a budget that the last trial has spent stopped nothing
        if bridge.ending is not None:
            _keep(bridge, bridge.ending)
        text = f"the study has ended: {bridge.ending or 'all trials are done'}"
        bridge.notifier.tell("finished", text, ending=bridge.ending)
    except StudyAborted as error:
        _cut_short(bridge, root_line(error))
        raise
    except KeyboardInterrupt:
        _interrupted(bridge)
        raise
    finally:
        watcher.ended(bridge.ending)
        bridge.notifier.close()
    return _results(bridge).at_rest()


def _cut_short(bridge: Bridge, why: str) -> None:
    _keep(bridge, why)
    bridge.notifier.tell("failed", f"the study was cut short: {why}")


def _interrupted(bridge: Bridge) -> None:
    _keep(bridge, "interrupted by a signal")
    bridge.notifier.tell("finished", "the study has ended: interrupted by a signal", ending="interrupted")


def _keep(bridge: Bridge, why: str) -> None:
    """Why a study ends early, where it is looked for later."""
    note_ending(bridge.directory, why)
    print(f"{now()} the study ends early: {why}", flush=True)  # into driver.log


def _results(bridge: Bridge) -> StudyResults:
    return collect(bridge.directory, bridge.spec, bridge.study.get_trials(deepcopy=False))


@contextlib.contextmanager
def _resumable(directory: Path) -> Iterator[None]:
    """What ends a study early ends it with a line that says how to go on."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StudyAborted, StorageInternalError, SQLAlchemyError, OSError) as error:
        raise UserError(_how_to_go_on(directory, root_line(error))) from None


def _how_to_go_on(directory: Path, why: str) -> str:
    return f"{directory}: {why}; mend that, and go on with: {typed('resume', directory)}"


@contextlib.contextmanager
def _output_to(log: Any) -> Iterator[None]:
    """Send everything this process and its children print to `log`; Ray's parts write to the file descriptors."""
    _flush()
    kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    try:
        for descriptor, _ in kept:
            os.dup2(log.fileno(), descriptor)
        yield
    finally:
        _flush()
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a full disk has been told of already
            stream.flush()
