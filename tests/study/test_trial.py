"""A trial's worker, without Ray: it trains up to evaluations, and to the looks of those that race."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ray.exceptions import RayTaskError

from study.trial import StudyTrial, last_words, node_by_node
from study.worker import Worker
from trainer.config import TrainerConfig
from trainer.errors import TrainingDiverged, UserError
from trainer.records import read_evaluations


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
