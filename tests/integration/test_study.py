"""Whole studies as a user runs them: real Ray, Optuna storage, training of the embedded base, and signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psutil
import pytest
import yaml

from study.results import TrialResult, read_study
from trainer.base_model import ensure_base_model
from trainer.config import TrainerConfig
from trainer.errors import read_yaml, validate
from trainer.records import read_evaluations

pytestmark = pytest.mark.slow

FIPO = [sys.executable, "-c", "from study.cli import main; main()"]
RATE = "optimizer.learning_rate"
SMALL = {
    "steps": 3,
    "rollout": {"prompts_per_step": 4, "group_size": 4},
    "optimizer": {"prompts_per_minibatch": 2},
    "evaluation": {"sets": [{"name": "sums", "path": "embedded:select", "samples": 2, "every": 1}]},
}


@pytest.fixture(scope="module")
def base() -> str:
    """The embedded base model, named by its directory and made before any test's own time begins."""
    return str(ensure_base_model())


def write_spec(path: Path, base: str, *, trainer: dict[str, object] | None = None, **changes: object) -> Path:
    spec = {
        "name": "small",
        "trials": 3,
        "concurrency": 2,
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "space": {RATE: {"type": "choice", "values": [5e-5, 1e-4, 1e30]}},
        "trainer": {"model": {"path": base}} | SMALL | (trainer or {}),
    } | changes
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def fipo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FIPO, *arguments], cwd=cwd, capture_output=True, text=True, timeout=400, check=False)


def controls(*rates: float) -> list[dict[str, object]]:
    return [{"label": f"c{number}", "values": {RATE: rate}} for number, rate in enumerate(rates)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, base) -> tuple[Path, str]:
    """A finished study of three trials, the second of which diverges at once, and what its launch printed."""
    folder = tmp_path_factory.mktemp("finished")
    write_spec(folder / "spec.yaml", base, enqueue=controls(5e-5, 1e30, 1e-4))
    launched = fipo("launch", "spec.yaml", "--out", "study", cwd=folder)
    assert launched.returncode == 0, launched.stderr
    return folder / "study", launched.stdout


def test_plain_optuna_reads_the_states_and_every_value_under_its_training_step(finished):
    directory, _ = finished
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{directory / 'optuna.db'}")
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    for trial in (study.trials[0], study.trials[2]):
        evaluations = read_evaluations(directory / trial.user_attrs["directory"])
        assert trial.intermediate_values == {each.step: each.scores[0].accuracy for each in evaluations}
        assert list(trial.intermediate_values) == [0, 1, 2, 3]
        assert trial.value == trial.intermediate_values[3]


def test_a_diverging_trial_fails_with_its_step_and_the_study_goes_on(finished):
    directory, _ = finished
    failed = read_study(directory).trials[1]
    assert failed.state == "FAIL"
    assert "not finite at step" in failed.fail_reason
    assert read_study(directory).trials[2].state == "COMPLETE"


def test_every_file_of_the_layout_is_there(finished):
    directory, _ = finished
    assert {path.name for path in directory.iterdir()} == {"study.yaml", "optuna.db", "trials", "driver.log"}
    for trial in read_study(directory).trials:
        validate(TrainerConfig, read_yaml(trial.directory / "config.yaml"), source="config.yaml")
        assert (trial.directory / "metrics.jsonl").exists()


def test_the_launch_ends_with_the_best_and_the_next_two_commands(finished):
    directory, printed = finished
    best = read_study(directory).best
    for words in (f"Best: trial {best.number}", "3 of 3 trials", "fipo dashboard", "fipo export"):
        assert words in printed
    assert "Traceback" not in printed


def test_training_the_exported_config_gives_the_trials_own_numbers(finished):
    directory, _ = finished
    folder = directory.parent
    assert fipo("export", "study", "--out", "best.yaml", cwd=folder).returncode == 0
    trained = fipo("train", "best.yaml", "--out", "again", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    best = read_study(directory).best
    again = read_evaluations(folder / "again")
    assert [(each.step, each.tokens, each.scores) for each in again] == [
        (each.step, each.tokens, each.scores) for each in best.evaluations
    ]
    assert len([line for line in trained.stdout.splitlines() if "avg@2" in line]) == 4


def test_status_tells_the_same_story_to_people_and_programs(finished):
    directory, _ = finished
    told = json.loads(fipo("status", str(directory), "--json", cwd=directory.parent).stdout)
    assert [trial["state"] for trial in told["trials"]] == ["COMPLETE", "FAIL", "COMPLETE"]
    shown = fipo("status", str(directory), cwd=directory.parent).stdout
    assert "not finite at step" in shown


def test_a_trial_of_two_ranks_trains_and_is_reported(tmp_path, base):
    write_spec(tmp_path / "spec.yaml", base, trials=1, resources={"workers": 2}, enqueue=controls(5e-5))
    launched = fipo("launch", "spec.yaml", "--out", "study", cwd=tmp_path)
    assert launched.returncode == 0, launched.stderr
    (trial,) = read_study(tmp_path / "study").trials
    assert trial.state == "COMPLETE"
    assert [each.step for each in trial.evaluations] == [0, 1, 2, 3]


def wait_for(condition: Callable[[list[TrialResult]], bool], directory: Path, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 500  # generous: only a hang reaches it
    while time.monotonic() < deadline:
        if directory.exists() and condition(list(read_study(directory).trials)):
            return
        assert driver.poll() is None, driver.communicate()
        time.sleep(1)
    raise AssertionError(f"not reached: {read_study(directory).trials}")


def processes(driver: psutil.Process) -> list[psutil.Process]:
    return [driver, *driver.children(recursive=True)]


@contextlib.contextmanager
def endless_study(folder: Path, base: str) -> Iterator[subprocess.Popen[str]]:
    """The driver of a study whose two running trials would never end, once both have been evaluated twice."""
    write_spec(folder / "spec.yaml", base, trials=9, enqueue=controls(*[5e-5] * 9), trainer={"steps": 100_000})
    command = [*FIPO, "launch", "spec.yaml", "--out", "study"]
    driver = subprocess.Popen(
        command,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A background job of a shell script ignores SIGINT, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(lambda trials: sum(len(each.evaluations) > 1 for each in trials) == 2, folder / "study", driver)
        yield driver
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)


def test_a_killed_worker_fails_its_trial_alone_and_ctrl_c_settles_the_rest(tmp_path, base):
    directory = tmp_path / "study"
    with endless_study(tmp_path, base) as driver:
        family = processes(psutil.Process(driver.pid))
        addresses = {each.laddr.ip for one in family for each in one.net_connections("inet") if each.status == "LISTEN"}
        assert addresses and addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}

        next(one for one in family if one.cmdline()[0].startswith("ray::Worker")).kill()
        wait_for(lambda trials: len(trials[2].evaluations) > 1, directory, driver)
        (failed,) = [trial for trial in read_study(directory).trials if trial.state == "FAIL"]
        assert failed.fail_reason == "the worker process died (killed, or out of memory); see driver.log"

        family = processes(psutil.Process(driver.pid))
        driver.send_signal(signal.SIGINT)
        _, complaint = driver.communicate(timeout=120)
        assert driver.returncode == 130
        assert complaint.strip() == "Interrupted; what was finished is kept in study"
    trials = read_study(directory).trials
    assert {trial.state for trial in trials} == {"FAIL", "WAITING"}
    assert {trial.fail_reason for trial in trials if trial.state == "FAIL"} == {failed.fail_reason, "interrupted"}
    _, left = psutil.wait_procs(family, timeout=30)
    assert not left


def test_a_killed_ray_ends_the_study_with_a_line_and_no_trial_running(tmp_path, base):
    with endless_study(tmp_path, base) as driver:
        next(one for one in processes(psutil.Process(driver.pid)) if one.name() == "raylet").kill()
        _, complaint = driver.communicate(timeout=240)
        assert driver.returncode == 2
        assert len(complaint.strip().splitlines()) == 1 and "Ray has died" in complaint
    states = [trial.state for trial in read_study(tmp_path / "study").trials]
    assert "RUNNING" not in states and "FAIL" in states


def test_a_model_that_cannot_be_loaded_ends_the_study_at_once_with_one_line(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2"}')
    write_spec(tmp_path / "spec.yaml", str(model), trials=50)
    launched = fipo("launch", "spec.yaml", "--out", "study", cwd=tmp_path)
    assert launched.returncode == 2
    assert len(launched.stderr.strip().splitlines()) == 1
    assert "Traceback" not in launched.stdout + launched.stderr
