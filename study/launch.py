"""Launching a study: check, make the base model, start Ray, run the trials, settle every one of them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from study.bridge import Bridge
from study.check import trainer_configs
from study.cluster import places, ray_session
from study.results import StudyResults, collect
from study.spec import StudySpec
from study.storage import Staging, driving
from trainer.errors import UserError

Progress = Callable[[float, str], None]


class Watcher(Protocol):
    """Shows a launch to the user. Its methods are called on the main thread, `snapshot` on any."""

    def preparing(self, fraction: float, text: str) -> None:
        """The base model is `fraction` done."""

    def running(self, directory: Path, snapshot: Callable[[], StudyResults], concurrency: int) -> None:
        """The trials begin; `snapshot` returns the results so far."""

    def ended(self) -> None:
        """No trial runs any more."""


def launch(spec: StudySpec, directory: Path, watcher: Watcher) -> StudyResults:
    """Run all trials of `spec` into `directory`, which must not exist.

    Raises:
        UserError: bad input; before the first trial trains nothing is left behind.
        KeyboardInterrupt: after the trials were settled as FAIL "interrupted".
    """
    staging = Staging(spec, directory)
    try:
        prepare(spec, watcher.preparing)
        with _output_to(staging.log), ray_session(spec.resources) as scratch:
            concurrency = min(spec.concurrency, places(spec.resources))
            directory = staging.publish()
            return _run(spec, directory, watcher, concurrency, scratch)
    finally:
        staging.discard()


def prepare(spec: StudySpec, progress: Progress) -> None:
    """Make or find everything that the trials read. Raises UserError for a model or problem file that is not there."""
    from trainer.data import evaluation_problems, load_problems

    configs = list(trainer_configs(spec))
    for path in {each.data.train for each in configs}:
        load_problems(path)
    evaluation_problems(configs[0])  # the same in all trials
    models = {each.model.path for each in configs}
    for model in models - {"embedded"}:
        _check_model(model)
    if "embedded" in models:
        from trainer.base_model import ensure_base_model

        ensure_base_model(progress)


def _check_model(path: str) -> None:
    if path.startswith((".", "/", "~")) and not (Path(path) / "config.json").exists():
        raise UserError(f"model.path = {path!r}: no config.json there; give a model directory, a hub name or embedded")
    from transformers import AutoConfig

    try:
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are told in the error
        AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"model.path = {path!r}: no model there ({first}); give a directory or a hub name") from None


def _run(spec: StudySpec, directory: Path, watcher: Watcher, concurrency: int, scratch: Path) -> StudyResults:
    from optuna.exceptions import StorageInternalError

    from study.trial import StudyTrial
    from study.tuner import StudyAborted, run_trials

    with driving(spec, directory) as study:
        bridge = Bridge(study, spec, directory)

        def snapshot() -> StudyResults:
            return collect(directory, spec, study.get_trials(deepcopy=False))

        watcher.running(directory, snapshot, concurrency)
        reason = "the study ended before this trial did"
        try:
            with terminated_as_interrupt():  # ray.init has put its own handler there
                run_trials(bridge, StudyTrial, concurrency=concurrency, scratch=scratch)
        except KeyboardInterrupt:
            reason = "interrupted"
            raise
        except StudyAborted as aborted:
            reason = aborted.line
            raise UserError(f"{directory}: {aborted.line}; the study ends here, what was finished is kept") from None
        finally:
            with contextlib.suppress(StorageInternalError):  # on a full disk: the reason is being raised
                bridge.settle(reason)
            watcher.ended()
        return snapshot()


@contextlib.contextmanager
def _output_to(log: Any) -> Iterator[None]:
    """Send everything this process and its children print to `log`; Ray's parts write to the file descriptors."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    try:
        for descriptor, _ in kept:
            os.dup2(log.fileno(), descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)


@contextlib.contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """Inside the block SIGTERM acts like Ctrl-C, so that a stopped job settles its trials as well."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
