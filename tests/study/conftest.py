"""Specs and storages for the tests of the study package. Optuna, SQLite and Ray are the real ones."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.assignment import Report
from study.bridge import Bridge
from study.check import load_spec
from study.lock import driver_lock
from study.spec import StudySpec
from study.storage import create_study, driving
from trainer.records import Evaluation, Journal, SetScore

RATE = "optimizer.learning_rate"


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small valid spec with the given keys replaced."""

    def write(**changes: Any) -> Path:
        spec = {
            "name": "unit",
            "trials": 4,
            "sampler": {"name": "random"},
            "space": {RATE: {"type": "log-uniform", "low": 1e-5, "high": 1e-2}},
            "trainer": {"steps": 20},
        } | changes
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def make_spec(spec_file: Callable[..., Path]) -> Callable[..., StudySpec]:
    """A checked spec with the given keys replaced."""
    return lambda **changes: load_spec(spec_file(**changes))


@pytest.fixture
def make_bridge(tmp_path: Path, make_spec: Callable[..., StudySpec]) -> Iterator[Callable[..., Bridge]]:
    """A bridge over a real SQLite study in ``tmp_path / "study"``."""

    def make(**changes: Any) -> Bridge:
        spec = make_spec(**changes)
        directory = tmp_path / "study"
        (directory / "trials").mkdir(parents=True)
        (directory / "study.yaml").write_text(spec.to_yaml(), encoding="utf-8")
        create_study(spec, directory)
        opened.enter_context(driver_lock(directory))
        return Bridge(opened.enter_context(driving(spec, directory)), spec, directory)

    with contextlib.ExitStack() as opened:
        yield make


@pytest.fixture
def full_disk() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Inside the block no file can grow, which fails what writes just as a full disk does."""

    @contextlib.contextmanager
    def limit() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


def an_evaluation(step: int, accuracy: float) -> Evaluation:
    """An evaluation of ten problems with eight samples each, as near to `accuracy` as counts allow."""
    solved = tuple(round(8 * accuracy) for _ in range(10))
    return Evaluation(
        step=step,
        seconds=float(step),
        tokens=100 * step,
        scores=tuple(
            SetScore(
                name=name,
                samples=8,
                solved=solved,
                accuracy=accuracy,
                sampling_error=0.011,
                problem_error=0.022,
                cons=accuracy,
                pass_at_k=accuracy,
                mean_length=20.0,
                length_quantiles=(1, 2, 3, 4, 5),
                truncated=0.0,
            )
            for name in ("sums_select", "sums_report")
        ),
    )


@pytest.fixture
def run_trial() -> Callable[..., int]:
    """Runs one trial of a bridge without training: writes its records, reports them, finishes it unless told not to."""

    def run(bridge: Bridge, accuracies: list[float], *, every: int = 5, finish: bool = True) -> int:
        assignment = bridge.ask()
        assert assignment is not None
        for index, accuracy in enumerate(accuracies):
            evaluation = an_evaluation(index * every, accuracy)
            journal = Journal(assignment.directory, writes=True)
            taken = {"seconds/total": evaluation.seconds, "tokens": evaluation.tokens}
            journal.write_metrics({"step": index * every, "loss": 0.1, **taken})
            journal.write_evaluation(evaluation)
            if bridge.report(assignment.number, Report(evaluation.step, accuracy)):
                break
        if finish:
            bridge.finish(assignment.number)
        return assignment.number

    return run
