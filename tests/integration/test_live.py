"""Commands to a study while it runs, from another terminal: they change, add to and stop a real one."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
import pytest

from study.ending import ending
from study.results import read_study
from tests.integration.launching import RATE, controls, driven, fipo, two_evaluated_twice, wait_for, write_spec

pytestmark = pytest.mark.slow


def test_a_study_that_is_terminated_while_its_ray_starts_ends_as_interrupted(tmp_path: Path, base: str) -> None:
    """Ray has handlers of its own for SIGTERM, in Python and below."""
    write_spec(tmp_path / "spec.yaml", base, trials=2)
    with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
        assert driver.stdout is not None and any(line.startswith("Starting Ray") for line in driver.stdout)
        time.sleep(3)
        driver.terminate()
        _, complaint = driver.communicate(timeout=60)
    assert driver.returncode == 130 and complaint.startswith("Interrupted; ")


def test_a_signal_to_all_processes_of_a_job_is_an_interrupt(tmp_path: Path, base: str) -> None:
    """As systemd and scancel send it: the study's own Ray ends by it too, and no call to it may keep the driver."""
    write_spec(tmp_path / "spec.yaml", base, trials=2, trainer={"steps": 5000})
    directory = tmp_path / "study"
    with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
        wait_for(lambda trials: any(each.evaluations for each in trials), directory, driver)
        for each in (*psutil.Process(driver.pid).children(recursive=True), driver):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        _, complaint = driver.communicate(timeout=60)
    assert driver.returncode == 130 and complaint == "Interrupted; go on with: fipo resume study\n"
    assert "interrupted by a signal" in (ending(directory) or "")


def test_a_running_study_takes_commands_and_stops_to_be_resumed(tmp_path: Path, base: str) -> None:
    spec = write_spec(tmp_path / "spec.yaml", base, trials=2, enqueue=controls(5e-5, 5e-5), trainer={"steps": 5000})
    directory = tmp_path / "study"

    def told(*command: str) -> str:
        done = fipo(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with driven(tmp_path, "launch", spec.name, "--out", "study") as driver:
        wait_for(two_evaluated_twice, directory, driver)
        assert told("set", "study", "concurrency=1") == "concurrency is 1\n"
        assert "guess is next in the queue" in told("enqueue", "study", f"{RATE}=1e-4", "--label", "guess")
        assert told("stop", "study", "--trial", "0") == "trial 0 stops, and counts as PRUNED\n"
        wait_for(lambda trials: trials[0].state == "PRUNED", directory, driver)
        now = len(read_study(directory).trials[1].evaluations)
        wait_for(lambda trials: len(trials[1].evaluations) > now + 3, directory, driver)
        assert read_study(directory).trials[2].state == "WAITING"  # for one at a time may run

        assert told("set", "study", "concurrency=2", "budget.hours=9") == "concurrency is 2, budget.hours is 9\n"
        wait_for(lambda trials: len(trials[2].evaluations) > 0, directory, driver)
        assert told("add", "study", "--trials", "1") == "trials is 4\n"
        refused = fipo("set", "study", "sampler.name=tpe", cwd=tmp_path)
        assert refused.returncode == 2 and "cannot change once a study has begun" in refused.stderr

        assert "the study stops; go on from the last checkpoints with: fipo resume" in told("stop", "study")
        said, complaint = driver.communicate(timeout=120)
    assert driver.returncode == 0, complaint
    assert "Stopping: stopped by hand" in said and "go on with: fipo resume" in said
    assert "1 of 4 trials: 1 PRUNED, 2 STOPPED" in said and "pruning spared" not in said
    results = read_study(directory)
    assert [trial.state for trial in results.trials] == ["PRUNED", "RUNNING", "RUNNING"]
    assert (results.trials[0].stop_reason, results.trials[2].enqueued) == ("stopped by hand", "guess")
    assert (results.spec.trials, results.spec.concurrency, results.spec.budget.hours) == (4, 2, 9)
