"""A study of which one part was restored without the other: its storage, or its directory."""

from __future__ import annotations

import io
import shutil

import pytest
from rich.console import Console

from study.backup import how_to_go_on, older_directory, require_known
from study.cli import main
from study.display import Display
from study.launch import resume
from study.lock import driver_lock
from study.results import read_study
from study.storage import driving
from trainer.errors import UserError

ENDS = [0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.fixture
def restored(make_bridge, run_trial, tmp_path):
    """A study at rest of two trials, whose storage was restored to the moment before the second."""
    bridge = make_bridge(storage="journal", trials=3)
    run_trial(bridge, ENDS)
    journal, older = bridge.directory / "optuna.journal", tmp_path / "older"
    shutil.copy(journal, older)
    run_trial(bridge, ENDS)
    shutil.copytree(bridge.directory, tmp_path / "restored")
    shutil.copy(older, tmp_path / "restored" / "optuna.journal")
    return tmp_path / "restored"


@pytest.fixture
def status(monkeypatch, capsys):
    """What `fipo status` prints of a directory."""

    def run(directory) -> str:
        monkeypatch.setattr("sys.argv", ["fipo", "status", str(directory)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    return run


def test_a_storage_older_than_its_directory_is_not_driven(restored, status):
    """The next trial would be given the number 1, and go on from the checkpoint of another configuration."""
    config = (restored / "trials" / "0001" / "config.yaml").read_text()
    with pytest.raises(UserError) as refused:
        resume(restored, Display(Console(file=io.StringIO())))
    line = (
        f"{restored}/trials: 0001 is of no trial that {restored}/optuna.journal knows, which is older, as after a"
        " restore of it alone; restore both from one backup, or move that folder away"
    )
    assert str(refused.value) == line
    assert (restored / "trials" / "0001" / "config.yaml").read_text() == config
    assert [trial.number for trial in read_study(restored).trials] == [0]
    assert line in status(restored)
    (restored / "trials" / "0001").rename(restored / "trials" / "0001.old")
    require_known(read_study(restored))


def test_nor_where_the_number_waits_in_the_queue(restored):
    spec = read_study(restored).spec
    with driver_lock(restored), driving(spec, restored) as study:
        study.enqueue_trial({})
    assert [trial.state for trial in read_study(restored).trials] == ["COMPLETE", "WAITING"]
    with pytest.raises(UserError, match="0001 is of no trial"):
        require_known(read_study(restored))


def test_many_folders_are_counted(restored):
    for number in range(2, 8):
        (restored / "trials" / f"{number:04d}").mkdir()
    with pytest.raises(UserError, match=r"0001, 0002, 0003, 0004 and 3 more are of no trial .*or move those folders"):
        require_known(read_study(restored))


def test_a_directory_older_than_its_storage_is_told(make_bridge, run_trial, tmp_path, status):
    bridge = make_bridge(trials=2)
    for _ in range(2):
        run_trial(bridge, ENDS)
    assert older_directory(read_study(bridge.directory)) is None
    older = tmp_path / "older"
    shutil.copytree(bridge.directory, older, ignore=shutil.ignore_patterns("driver.*", "0001"))
    evaluations = older / "trials" / "0000" / "evaluations.jsonl"
    evaluations.write_text("".join(evaluations.read_text().splitlines(keepends=True)[:3]))
    rest = f"{older} is older than its storage, as after a restore of it alone; restore both from one backup"
    line = f"Trial 0 is COMPLETE, and its folder ends at step 10 of 20 (and 1 other): {rest}"
    assert how_to_go_on(read_study(older)) == [line]
    assert line in status(older)
    evaluations.unlink()
    told = io.StringIO()
    resume(older, Display(Console(file=told)))
    assert f"Warning: Trial 0 is COMPLETE, and its folder holds no evaluation (and 1 other): {rest}" in told.getvalue()


def test_a_study_that_is_driven_is_not_judged(restored):
    with driver_lock(restored):
        assert how_to_go_on(read_study(restored)) == []
