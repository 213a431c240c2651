"""A trial's worker, without Ray: it trains up to evaluations, and to the looks of those that race."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.exceptions import RayTaskError

from study.collapse import CollapseRule
from study.trial import StudyTrial, last_words, node_by_node
from study.worker import Worker
from tests.study.exported import score
from trainer.config import TrainerConfig
from trainer.errors import TrainingDiverged, UserError
from trainer.records import Evaluation, SetScore, read_evaluations


@pytest.fixture
def racing(small_config: TrainerConfig, tmp_path: Path) -> Path:
    """The directory of a run whose evaluation after step 1 races: 2, 4 and 8 samples per problem."""
    config = small_config.model_dump(mode="json")
    config["evaluation"]["sets"] = [
        {"name": "sums", "path": config["data"]["train"], "samples": 8, "every": 1, "first_look": 2}
    ]
    directory = tmp_path / "study" / "trials" / "0000"
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return directory


@pytest.fixture
def worker(racing: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    for name, value in (
        ("RANK", "0"),
        ("WORLD_SIZE", "1"),
        ("LOCAL_RANK", "0"),
        ("MASTER_ADDR", ""),
        ("MASTER_PORT", ""),
        ("MASTER_LISTEN_FD", ""),
    ):
        monkeypatch.setenv(name, value)  # taken back afterwards: a worker has its process to itself
    worker = Worker(0, 1)
    worker.begin(racing, ("127.0.0.1", 0))
    return worker


def told(worker: Worker, answers: list[bool]) -> list[tuple[str, int, int]]:
    """(kind, step, samples) of everything the worker tells, given `answers` to its looks."""
    found, enough, left = [], False, iter(answers)
    while (each := worker.advance(enough)) is not None:
        enough = "look" in each and next(left)
        if "look" in each:
            found.append(("look", each["step"], each["look"]))
        else:
            found.append(("evaluation", each["evaluation"]["step"], each["evaluation"]["scores"][0]["samples"]))
    return found


def test_the_ranks_of_a_node_stand_together() -> None:
    """Ray 2.60 places 32 equal bundles on four nodes of eight so: every engine of four ranks is to be on one node."""
    nodes = dict(enumerate("DBBBBBBBBDDDDDDDCAAAAAAAACCCCCCC"))
    ranks = node_by_node(nodes)
    assert sorted(ranks) == list(range(32))
    assert all(len({nodes[bundle] for bundle in ranks[first : first + 4]}) == 1 for first in range(0, 32, 4))


def test_a_node_that_holds_an_odd_number_of_ranks_moves_no_engine_of_the_others() -> None:
    nodes = dict(enumerate("A" * 7 + "B" * 8 + "C" + "D" * 8 + "E" * 8))
    assert "".join(nodes[bundle] for bundle in node_by_node(nodes)) == "B" * 8 + "D" * 8 + "E" * 8 + "A" * 7 + "C"


def test_a_race_ends_at_the_first_enough_and_neither_base_nor_last_step_races(worker: Worker, racing: Path):
    assert told(worker, [False, True]) == [
        ("evaluation", 0, 8), ("look", 1, 2), ("look", 1, 4), ("evaluation", 1, 4), ("evaluation", 2, 8)
    ]  # fmt: skip
    assert [each.scores[0].samples for each in read_evaluations(racing)] == [8, 4, 8]


def test_a_race_that_is_never_ended_draws_all(worker: Worker):
    assert told(worker, [False, False])[-2:] == [("evaluation", 1, 8), ("evaluation", 2, 8)]


def test_an_evaluation_brings_the_metrics_since_the_one_before_also_after_a_restart(worker: Worker, racing: Path):
    for _ in range(2):
        told = []
        while (each := worker.advance(False)) is not None:
            if "evaluation" in each:
                told.append((each["evaluation"]["step"], [line["step"] for line in each["metrics"]]))
        assert told == [(0, [0]), (1, [1]), (2, [2])]
        worker.begin(racing, ("127.0.0.1", 0))


def test_the_port_where_ranks_meet_is_theirs_from_the_moment_it_is_chosen(worker: Worker):
    host, port = worker.rendezvous()
    socket.create_server((host, port)).close()  # one rank has no one to meet
    host, port = Worker(0, 2).rendezvous()
    with pytest.raises(OSError, match="in use"):
        socket.create_server((host, port))
    os.close(int(os.environ["MASTER_LISTEN_FD"]))


def test_a_rank_that_the_first_one_never_answers_gives_up(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """It stands still before it has opened the port, which it holds. In a process of its own, as torch waits in C++."""
    host, port = Worker(0, 2).rendezvous()
    code = "from trainer.ranks import start_ranks\nwith start_ranks(timeout=2): pass"
    where = {"RANK": "1", "MASTER_ADDR": host, "MASTER_PORT": str(port), "MASTER_LISTEN_FD": ""}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **where}, capture_output=True, timeout=60)
    os.close(int(os.environ["MASTER_LISTEN_FD"]))
    assert b"RankLost: rank 1 of 2: another rank died, or did not answer within rank_timeout = 2 s" in done.stderr


@pytest.mark.parametrize(("deaths", "pauses"), [(0, []), (1, [2.0]), (3, [8.0]), (10, [60.0])])
def test_a_trial_that_died_begins_again_after_a_pause_that_doubles(
    deaths: int, pauses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    slept, begun = [], []
    monkeypatch.setattr("study.trial.time.sleep", slept.append)
    monkeypatch.setattr(StudyTrial, "_begin", lambda self, directory: begun.append((directory, list(slept))))
    StudyTrial.__new__(StudyTrial).setup({"directory": str(tmp_path)} | ({"deaths": deaths} if deaths else {}))
    assert begun == [(tmp_path, pauses)]


def driven(
    told: list[tuple[SetScore, list[dict[str, float]]]], *, metric: str = "avg@k", collapse: CollapseRule | None = None
) -> list[dict[str, Any]]:
    """The results of a trial selected by ``sums`` that is told a score and metrics after steps 1, 2, 3, ..."""
    trial = StudyTrial.__new__(StudyTrial)
    trial._refused, trial._set_name, trial._metric, trial._collapse = None, "sums", metric, collapse
    trial._scores, trial._policy_kl, trial._metrics = [], [], []
    each = iter(
        {"evaluation": Evaluation(step=step, seconds=7.5, tokens=300, scores=(own,)).model_dump(), "metrics": metrics}
        for step, (own, metrics) in enumerate(told, 1)
    )
    trial._advance = lambda: next(each, None)
    return [dict(result) for result in iter(trial.step, {"done": True})]


@pytest.mark.parametrize(("metric", "value"), [("avg@k", 0.1), ("cons@k", 0.2), ("pass@k", 0.3)])
def test_a_result_has_the_numbers_of_its_evaluation(metric: str, value: float):
    own = score("sums", [0, 3], samples=4, length=80.0)
    own = own.model_copy(update={"accuracy": 0.1, "cons": 0.2, "pass_at_k": 0.3})
    assert driven([(own, [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 2.0, "policy_kl": None}])], metric=metric) == [
        {"step": 1, "training_iteration": 1, "value": value, "samples": 4, "solved": [0, 3], "length": 80.0,
         "seconds": 7.5, "tokens": 300, "metrics": [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 2.0}]}
    ]  # fmt: skip


def test_a_collapse_is_told_from_the_policy_kl_of_all_steps():
    """That of the good time comes with the first evaluation, the risen one with one of another set."""
    good, fallen, other = score("sums", [2] * 30, 4), score("sums", [1] * 30, 4), score("others", [2] * 30, 4)
    told = [
        (good, [{"step": 1, "policy_kl": 1e-4}]),
        (other, [{"step": 2, "policy_kl": 1e-3}]),
        (fallen, [{"step": 3}]),
    ]
    first, last = driven(told, collapse=CollapseRule(patience=1))
    assert "collapsed" not in first
    assert last["collapsed"] == (
        "collapsed: sums fell from 0.500 at step 1 to 0.250 while policy KL rose from 0.0001 to 0.001"
    )
    assert "collapsed" not in driven(told)[-1]


ODD = {"user_error": False, "unexpected": True}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("cause", "traceback", "words"),
    [
        (UserError("model.path: none"), "", {"failed": "model.path: none", "user_error": True}),
        (TrainingDiverged(3, 0, "loss"), "", {"failed": str(TrainingDiverged(3, 0, "loss")), "user_error": False}),
        (FULL, str(FULL), {"abort": "No space left on device while a trial was writing"}),
        (RuntimeError("checkpoint"), f"... {FULL}", {"abort": "No space left on device while a trial was writing"}),
        (ValueError("one\ntwo"), "", {"failed": "ValueError: one; see driver.log"} | ODD),
        (ValueError(), "", {"failed": "ValueError: no message; see driver.log"} | ODD),
    ],
)
def test_the_last_words_say_whether_the_trial_the_user_or_the_disk_is_at_fault(cause, traceback, words):
    assert last_words(RayTaskError("advance", traceback, cause)) == words
