"""SIGKILL at random moments: a study of 200 trials ends exactly as if nothing had happened."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from study.directory import Staging
from study.results import read_study
from study.spec import Plugin, StudySpec
from tests import forked

pytestmark = pytest.mark.slow
DRIVE = "from tests.integration.noop_driver import drive; drive(*arguments)"
TRIALS, KILLS = 200, 20


@pytest.fixture
def address() -> Iterator[str]:
    """A Ray that outlives its drivers, as a cluster does."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield made.address
    ray.shutdown()
    made.shutdown()


def write(directory: Path) -> Path:
    """Pruning looks at a trial's own values only, so that its decisions do not depend on who else has finished."""
    spec = StudySpec(
        name="noop",
        trials=TRIALS,
        concurrency=2,
        sampler=Plugin(name="random", seed=0),
        pruner=Plugin(name="threshold", lower=0.3, n_warmup_steps=2, interval_steps=1),
        space={"fipo.epsilon_f_low": {"type": "uniform", "low": 0, "high": 1}},
        trainer={"steps": 4},
        resources={"cpus_per_worker": 1},
    )
    staging = Staging(spec, directory)
    staging.publish()
    staging.discard()
    return directory


class Driver:
    """A process that drives the study of `directory`, and the reports that it tells of on a pipe."""

    def __init__(self, directory: Path, address: str) -> None:
        pipe = directory / "reports"
        if not pipe.exists():
            os.mkfifo(pipe)
        self._process = forked.start(DRIVE, directory, address, output=pipe)
        self._pipe = pipe.open()

    def wait_for_reports(self, count: int) -> None:
        for _ in range(count):
            assert self._pipe.readline() == "report\n"

    def finish(self) -> None:
        said = self._pipe.read()
        self._process.join(300)
        assert self._process.exitcode == 0, said[-3000:]

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def outcome(directory: Path) -> dict[int, tuple[object, ...]]:
    """Everything that Optuna knows of each trial but for the clock, and usage, which trials that do nothing lack."""
    trials = optuna.load_study(study_name="noop", storage=f"sqlite:///{directory / 'optuna.db'}").trials
    return {
        each.number: (each.state.name, each.params, each.values, each.intermediate_values, _without_usage(each))
        for each in trials
    }


def _without_usage(trial: optuna.trial.FrozenTrial) -> dict[str, object]:
    return {name: value for name, value in trial.user_attrs.items() if name != "usage"}


def test_a_study_killed_twenty_times_is_the_study_that_was_not(tmp_path: Path, address: str) -> None:
    steady, mortal = write(tmp_path / "steady"), write(tmp_path / "mortal")
    Driver(steady, address).finish()

    moments, interrupted = random.Random(0), 0
    for _ in range(KILLS):
        driver = Driver(mortal, address)
        driver.wait_for_reports(moments.randint(1, 50))
        time.sleep(moments.uniform(0, 0.05))
        driver.kill()
        interrupted += sum(trial.state == "RUNNING" for trial in read_study(mortal).trials)
    assert interrupted >= KILLS  # what was killed was at work
    Driver(mortal, address).finish()
    assert outcome(mortal) == outcome(steady)
    states = [each[0] for each in outcome(steady).values()]
    assert len(states) == TRIALS and 20 < states.count("PRUNED") < 180 and set(states) == {"COMPLETE", "PRUNED"}
