"""Whole studies as a user runs them: real Ray, Optuna storage, training of the embedded base, and signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import optuna
import psutil
import pytest

from study.directory import trial_directory
from study.results import TrialResult, read_study
from tests.integration.launching import (
    controls,
    driven,
    events,
    fipo,
    notify,
    two_evaluated_twice,
    wait_for,
    write_spec,
)
from tests.processes import known
from trainer.config import TrainerConfig
from trainer.config_file import read_config
from trainer.records import read_evaluations

pytestmark = pytest.mark.slow
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, base) -> tuple[Path, str]:
    """A finished study of three trials, the second of which diverges at once, and what its launch printed.

    It is launched where modules of the user's own lie, which no driver, worker or grader may import.
    """
    folder = tmp_path_factory.mktemp("finished")
    for name in ("trainer", "study", "dashboards", "polars", "math_verify"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the user')\n")
    write_spec(folder / "spec.yaml", base, enqueue=controls(5e-5, 1e30, 1e-4), notify=notify(folder))
    launched = fipo("launch", "spec.yaml", "--out", "study", cwd=folder)
    assert launched.returncode == 0, launched.stderr
    return folder / "study", launched.stdout


def test_plain_optuna_reads_the_states_and_every_value_under_its_training_step(finished):
    directory, _ = finished
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{directory / 'optuna.db'}")
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    for trial in (study.trials[0], study.trials[2]):
        evaluations = read_evaluations(directory / trial_directory(trial.number))
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
    names = {"study.yaml", "optuna.db", "trials", "tensorboard", "driver.log", "driver.lock", "environment.txt"}
    assert {path.name for path in directory.iterdir()} == names
    for trial in read_study(directory).trials:
        read_config(TrainerConfig, trial.directory / "config.yaml")
        assert (trial.directory / "metrics.jsonl").exists()


def test_the_launch_ends_with_the_best_and_the_next_two_commands(finished):
    directory, printed = finished
    best = read_study(directory).best
    for words in (f"Best: trial {best.number}", "3 of 3 trials", "fipo dashboard", "fipo export"):
        assert words in printed
    assert "Traceback" not in printed


def test_a_program_was_told_of_the_best_of_the_failure_and_of_the_end(finished):
    directory, _ = finished
    told = events(directory.parent)
    assert {each["event"] for each in told[:-1]} == {"best", "failed"}
    assert (told[-1]["event"], told[-1]["text"]) == ("finished", "the study has ended: all trials are done")


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


def test_the_readme_goes_from_a_study_to_a_32b_launch_script_in_one_command(finished):
    directory, _ = finished
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    _, *command = shlex.split(re.search(r"(?m)^fipo export studies/tiny --to verl .*$", readme)[0], comments=True)
    done = fipo(*("study" if word == "studies/tiny" else word for word in command), cwd=directory.parent)
    assert done.returncode == 0, done.stderr
    script = directory.parent / command[command.index("--out") + 1]
    assert "model.path=Qwen/Qwen2.5-32B" in script.read_text() and os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_status_tells_the_same_story_to_people_and_programs(finished):
    directory, _ = finished
    told = json.loads(fipo("status", str(directory), "--json", cwd=directory.parent).stdout)
    assert [trial["state"] for trial in told["trials"]] == ["COMPLETE", "FAIL", "COMPLETE"]
    shown = fipo("status", str(directory), cwd=directory.parent).stdout
    assert "not finite at step" in shown
    tokens = sum(trial["usage"]["tokens"] for trial in told["trials"])
    assert tokens == told["usage"]["tokens"] > 0 and f"{tokens:,} tokens" in shown


def test_ranks_that_lose_each_other_go_on_from_their_checkpoint_though_no_process_died(tmp_path, base):
    write_spec(
        tmp_path / "spec.yaml", base, trials=1, resources={"workers": 2}, enqueue=controls(5e-5),
        notify=notify(tmp_path), trainer={"steps": 8, "rank_timeout": 15, "checkpoint": {"every": 1}},
    )  # fmt: skip
    directory = tmp_path / "study"
    with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
        wait_for(lambda trials: any(len(each.evaluations) > 1 for each in trials), directory, driver)
        family = processes(psutil.Process(driver.pid))
        assert set().union(*(known(one, listening, gone=set()) for one in family)) <= LOOPBACK
        stalled = next(
            one for one in family if known(one, psutil.Process.cmdline, gone=[""])[0].startswith("ray::Worker")
        )
        stalled.suspend()  # as a node that a network no longer reaches
        wait_for(lambda trials: trials[0].deaths > 0, directory, driver)
        with contextlib.suppress(psutil.NoSuchProcess):
            stalled.resume()
        _, complaint = driver.communicate(timeout=300)
    assert driver.returncode == 0, complaint
    (trial,) = read_study(directory).trials
    assert trial.state == "COMPLETE"
    assert [each.step for each in trial.evaluations] == list(range(9))
    assert "trial 0 lost a process" in next(each["text"] for each in events(tmp_path) if each["event"] == "lost")
    assert "did not answer within rank_timeout = 15 s" in (directory / "driver.log").read_text()


def processes(driver: psutil.Process) -> list[psutil.Process]:
    return [driver, *driver.children(recursive=True)]


def listening(process: psutil.Process) -> set[str]:
    return {each.laddr.ip for each in process.net_connections("inet") if each.status == "LISTEN"}


def ended(family: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(family, timeout=30)[1]


def farther(directory: Path, driver: subprocess.Popen[str]) -> None:
    """Wait until each trial that has not ended has two evaluations more; the first may have been on its way."""
    before = {each.number: len(each.evaluations) for each in read_study(directory).trials if each.state == "RUNNING"}
    assert before

    def reached(trials: list[TrialResult]) -> bool:
        return all(
            each.state != "RUNNING" or len(each.evaluations) > before[each.number] + 1
            for each in trials
            if each.number in before
        )

    wait_for(reached, directory, driver)
    assert any(each.state == "RUNNING" for each in read_study(directory).trials)  # what comes next hits one at work


def test_a_study_that_loses_a_worker_its_ray_and_its_driver_is_the_study_that_did_not(tmp_path, base):
    """One loss after the other, each in midst of training, and Ctrl-C; every evaluation is there once in the end."""
    # Time to kill something, three times; a checkpoint at every step.
    slow = {"steps": 24, "rollout": {"prompts_per_step": 16, "group_size": 16}, "checkpoint": {"every": 1}}
    write_spec(tmp_path / "spec.yaml", base, trials=2, enqueue=controls(5e-5, 5e-5), trainer=slow)
    directory = tmp_path / "study"

    with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
        wait_for(two_evaluated_twice, directory, driver)
        family = processes(psutil.Process(driver.pid))
        addresses = set().union(*(known(one, listening, gone=set()) for one in family))
        assert addresses and addresses <= LOOPBACK
        refused = fipo("resume", "study", cwd=tmp_path)
        assert refused.returncode == 2 and f"is driven by process {driver.pid}" in refused.stderr

        titles = {one: " ".join(known(one, psutil.Process.cmdline, gone=[])) for one in family}
        next(one for one, title in titles.items() if title.startswith("ray::Worker")).kill()
        farther(directory, driver)
        family = processes(psutil.Process(driver.pid))
        driver.send_signal(signal.SIGINT)
        _, complaint = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert complaint.strip() == "Interrupted; go on with: fipo resume study"
    assert ended(family)
    assert "STOPPED" in fipo("status", "study", cwd=tmp_path).stdout

    with driven(tmp_path, "resume", "study") as driver:
        farther(directory, driver)
        family = processes(psutil.Process(driver.pid))
        next(one for one in family if known(one, psutil.Process.name, gone="") == "raylet").kill()
        _, complaint = driver.communicate(timeout=240)
    assert driver.returncode == 2
    assert len(complaint.strip().splitlines()) == 1
    assert "Ray has died" in complaint and "fipo resume" in complaint

    # Here and below at once, while what the driver left may still be ending.
    with driven(tmp_path, "launch", "spec.yaml", "--out", "study", "--resume") as driver:
        farther(directory, driver)
        family += processes(psutil.Process(driver.pid))
        driver.kill()
        driver.communicate()
    resumed = fipo("launch", "spec.yaml", "--out", "study", "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    # Ray's own agents take a minute to miss a raylet that was killed; what trains must be gone.
    assert ended([one for one in family if not known(one, psutil.Process.name, gone="").endswith("Agent")])

    first, second = read_study(directory).trials
    assert [first.state, second.state] == ["COMPLETE", "COMPLETE"]
    assert [each.step for each in first.evaluations] == list(range(25))
    assert [each.scores for each in first.evaluations] == [each.scores for each in second.evaluations]
    stored = optuna.load_study(study_name="small", storage=f"sqlite:///{directory / 'optuna.db'}").trials
    assert [each.number for each in stored] == [0, 1]
    assert stored[0].intermediate_values == {each.step: each.scores[0].accuracy for each in first.evaluations}
    assert fipo("resume", "study", cwd=tmp_path).returncode == 0  # nothing left to do


def test_a_model_that_cannot_be_loaded_ends_the_study_at_once_with_one_line(tmp_path, random_model):
    """Its config and tokenizer are whole, so that only the trials find out."""
    model = shutil.copytree(random_model, tmp_path / "model")
    (model / "model.safetensors").unlink()
    write_spec(tmp_path / "spec.yaml", str(model), trials=50, notify=notify(tmp_path))
    launched = fipo("launch", "spec.yaml", "--out", "study", cwd=tmp_path)
    assert launched.returncode == 2
    assert len(launched.stderr.strip().splitlines()) == 1
    assert "Traceback" not in launched.stdout + launched.stderr
    assert "the study was cut short" in events(tmp_path)[-1]["text"]
