"""The driver's view of its trials is what a reader of the database sees, and costs no reading."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import optuna
import pytest

from study.assignment import Report
from study.bridge import Bridge
from study.directory import Staging
from study.spec import StudySpec
from study.storage import driving

SAMPLES, PROBLEMS = 4, 5


def made(spec: StudySpec, directory: Path) -> Path:
    staging = Staging(spec, directory)
    staging.publish()
    staging.discard()
    return directory


def written(spec: StudySpec, directory: Path) -> list[optuna.trial.FrozenTrial]:
    """All that the database holds, read by Optuna itself."""
    return optuna.load_study(study_name=spec.name, storage=f"sqlite:///{directory / 'optuna.db'}").trials


def report(bridge: Bridge, number: int, step: int, correct: int) -> bool:
    value = correct / SAMPLES
    return bridge.report(number, Report(step, value, samples=SAMPLES, solved=[correct] * PROBLEMS))


@pytest.mark.parametrize(
    "pruner",
    [
        {"name": "aime"},
        {"name": "hyperband", "min_resource": 5, "max_resource": 20},
        {"name": "median", "n_startup_trials": 1},
        {"name": "successive-halving", "min_resource": 5},
    ],
)
def test_what_the_driver_sees_is_what_was_written(pruner: dict[str, Any], make_spec, tmp_path):
    """Trials of every state, with controls, fixed values and what pruners and bridge note on them."""
    spec = make_spec(trials=9, pruner=pruner, sampler={"name": "tpe", "n_startup_trials": 2})
    directory = made(spec, tmp_path / "study")
    with driving(spec, directory) as study:
        bridge = Bridge(study, spec, directory)
        numbers = [bridge.ask().number for _ in range(8)]
        for step in (0, 5, 10, 15, 20):
            for number in list(numbers):
                stop = report(bridge, number, step, min(number // 2, SAMPLES))
                if stop or step == 20:
                    numbers.remove(number)
                    bridge.finish(number)
            assert study.get_trials() == written(spec, directory)
        last = bridge.ask().number
        bridge.fail(last, "went bad")
        bridge.finish(last)
        assert study.get_trials() == written(spec, directory)
        states = {trial.state.name for trial in study.trials}
    assert states >= {"COMPLETE", "FAIL"}
    with driving(spec, directory) as study:
        assert study.get_trials() == written(spec, directory)


@pytest.mark.parametrize("pruner", ["median", "successive-halving", "hyperband"])
def test_a_report_reads_no_trials_from_the_database(pruner: str, make_spec, tmp_path, monkeypatch):
    spec = make_spec(pruner={"name": pruner})
    directory = made(spec, tmp_path / "study")
    with driving(spec, directory) as study:
        bridge = Bridge(study, spec, directory)
        numbers = [bridge.ask().number for _ in range(3)]
        for name in ("get_trial", "_get_trials", "get_all_trials"):
            monkeypatch.setattr(study._storage._backend, name, None)
        for step in (0, 5, 10):
            for number in numbers:
                report(bridge, number, step, number)


def test_what_was_handed_out_does_not_change_under_a_reader(make_spec, tmp_path):
    """The display reads on another thread while the driver writes."""
    spec = make_spec(pruner={"name": "none"})
    directory = made(spec, tmp_path / "study")
    with driving(spec, directory) as study:
        bridge = Bridge(study, spec, directory)
        number = bridge.ask().number
        report(bridge, number, 0, 1)
        held = study.get_trials(deepcopy=False)[0]
        seen: list[int] = []
        reader = threading.Thread(target=lambda: seen.append(len(study.get_trials(deepcopy=False))))
        reader.start()
        report(bridge, number, 5, 2)
        reader.join()
        assert held.intermediate_values == {0: 0.25}
        assert seen == [len(study.trials)]
        assert study.trials[0].intermediate_values == {0: 0.25, 5: 0.5}


def test_what_the_database_refuses_is_not_remembered(make_spec, tmp_path, monkeypatch):
    spec = make_spec()
    directory = made(spec, tmp_path / "study")
    with driving(spec, directory) as study:
        bridge = Bridge(study, spec, directory)
        number = bridge.ask().number
        with monkeypatch.context() as patch:
            refuse = optuna.exceptions.StorageInternalError("database is locked")
            patch.setattr(
                study._storage._backend, "set_trial_intermediate_value", lambda *_: (_ for _ in ()).throw(refuse)
            )
            with pytest.raises(optuna.exceptions.StorageInternalError):
                report(bridge, number, 0, 1)
        assert study.trials[number].intermediate_values == {}
