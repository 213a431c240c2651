"""Every storage tells the same story: SQLite, a journal file, and a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from study.assignment import Report
from study.backend import FILES, open_storage
from study.bridge import Bridge
from study.cli import main
from study.directory import Staging
from study.results import read_study
from study.spec import StudySpec
from study.storage import create_study, driving
from tests.study import postgres
from trainer.errors import UserError


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def storage(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("server").url if request.param == "postgresql" else request.param


def made(spec: StudySpec, directory: Path) -> Path:
    staging = Staging(spec, directory)
    staging.publish()
    staging.discard()
    return directory


def run(bridge: Bridge, values: list[float], *, finish: bool = True) -> None:
    number = bridge.ask().number
    for index, value in enumerate(values):
        if bridge.report(number, Report(5 * index, value)):
            break
    if finish:
        bridge.finish(number)


def test_a_study_is_driven_left_and_taken_up_again(storage, make_spec, tmp_path):
    spec = make_spec(name=f"study-{os.getpid()}", storage=storage, pruner={"name": "median", "n_startup_trials": 1})
    directory = made(spec, tmp_path / "study")
    assert read_study(directory).trials == ()
    with driving(spec, directory) as study:
        bridge = Bridge(study, spec, directory)
        run(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
        run(bridge, [0.2, 0.1])
        run(bridge, [0.2, 0.5], finish=False)
    assert [trial.state for trial in read_study(directory).trials] == ["COMPLETE", "PRUNED", "RUNNING"]
    with driving(spec, directory) as study:
        bridge = Bridge(study, spec, directory)
        run(bridge, [0.2, 0.5, 0.6, 0.7, 0.8])
        assert bridge.ask().number == 3
    trials = read_study(directory).trials
    assert [trial.state for trial in trials] == ["COMPLETE", "PRUNED", "COMPLETE", "RUNNING"]
    assert (trials[0].value, trials[1].pruned_at, trials[2].value) == (0.6, 5, 0.8)


@pytest.mark.parametrize("command", ["status", "resume", "set"])
def test_a_study_that_its_storage_lost_is_one_line(storage, command, make_spec, tmp_path, monkeypatch, capfd):
    """Deleted there by hand, or a copy of the directory without its file; only what has no trial yet is still made."""
    spec = make_spec(name=f"lost-{command}-{os.getpid()}", storage=storage)
    directory = made(spec, tmp_path / "study")
    with driving(spec, directory) as study:
        run(Bridge(study, spec, directory), [0.2, 0.3, 0.4, 0.5, 0.6])
    if storage in FILES:
        (directory / FILES[storage]).unlink()
    else:
        with open_storage(spec, directory, mode="rw") as opened:
            opened.delete_study(opened.get_study_id_from_name(spec.name))
    monkeypatch.setattr("sys.argv", ["fipo", command, str(directory), *(["concurrency=1"] if command == "set" else [])])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert f"holds no study named '{spec.name}', whose directory is {directory}" in said
    assert not any((directory / file).exists() for file in FILES.values())


def test_a_copy_of_a_directory_is_not_driven_beside_the_one_that_its_server_knows(server, make_spec, tmp_path):
    """Each would have a lock of its own. A moved one is no copy, nor is one that is reached by another path."""
    spec = make_spec(name=f"copied-{os.getpid()}", storage=server.url)
    directory = made(spec, tmp_path / "study")
    with driving(spec, directory):
        pass
    copy = shutil.copytree(directory, tmp_path / "copy")
    link = tmp_path / "link"
    link.symlink_to(directory)
    with pytest.raises(UserError) as refused, driving(spec, copy):
        pass
    assert f"{copy}: is a copy of {directory}, to which the study '{spec.name}' in postgresql" in str(refused.value)
    assert postgres.PASSWORD not in str(refused.value)
    with driving(spec, link):
        pass
    with driving(spec, directory) as study:
        study.set_user_attr("directory", str(link))  # as a driver notes it that sees another mount of it
    with driving(spec, directory) as study:
        assert study.user_attrs["directory"] == str(directory)
    with driving(spec, directory.rename(tmp_path / "moved")):
        pass
    copy.rename(directory)
    with pytest.raises(UserError, match=f"is a copy of {tmp_path / 'moved'}"), driving(spec, directory):
        pass
    other = spec.model_copy(update={"name": "other"})  # another study where it was is no original
    (tmp_path / "moved" / "study.yaml").write_text(other.to_yaml())
    with driving(spec, directory):
        pass


def test_two_studies_in_one_server_do_not_meet_and_need_two_names(server, make_spec, tmp_path):
    one, two = (make_spec(name=f"{name}-{os.getpid()}", storage=server.url) for name in ("one", "two"))
    for spec in (one, two):
        made(spec, tmp_path / spec.name)
    with driving(one, tmp_path / one.name) as study:
        run(Bridge(study, one, tmp_path / one.name), [0.2, 0.3, 0.4, 0.5, 0.6])
    assert [len(read_study(tmp_path / spec.name).trials) for spec in (one, two)] == [1, 0]
    with pytest.raises(UserError, match=r"holds a study of that name; choose another"):
        Staging(one, tmp_path / "again")
    assert not list(tmp_path.glob("*again*")) and not list(tmp_path.glob(".again*"))


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://me:4711@h/db",
        "mysql://me@h/db?passwd=4711",
        "mysql://me@h/db?Pass%77ord=4711",
        "odbc://h/?odbc_connect=UID%3Dme%3BPWD%3D4711",
        "me:4711@h/db",
        "postgresql:me:4711@h/db",
        "postgresql://me:4711@[h/db",
    ],
)
def test_a_password_in_a_url_is_refused_without_repeating_it(storage, make_spec):
    with pytest.raises(UserError) as refused:
        make_spec(storage=storage)
    assert "storage: " in str(refused.value) and "4711" not in str(refused.value)


def test_a_password_is_never_written_or_printed(server, make_spec, tmp_path, monkeypatch):
    with_password = server.url.replace("fipo@", f"fipo:{postgres.PASSWORD}@")
    with pytest.raises(UserError) as refused:
        make_spec(storage=with_password)
    assert "put it into PGPASSWORD or ~/.pgpass" in str(refused.value)
    spec = make_spec(name=f"secret-{os.getpid()}", storage=server.url)
    directory = made(spec, tmp_path / "study")
    monkeypatch.setenv("PGPASSWORD", "wrong-but-also-secret")
    with pytest.raises(UserError, match="password authentication failed") as failed, driving(spec, directory):
        pass
    for text in (str(refused.value), str(failed.value), *(path.read_text() for path in directory.glob("*.*"))):
        assert postgres.PASSWORD not in text and "wrong-but" not in text


@pytest.mark.parametrize("storage", ["postgresql://fipo@127.0.0.1:9/none", "nonsense", "oracle://x@y/z"])
def test_a_storage_that_cannot_be_used_is_one_line_and_nothing_is_left(storage, make_spec, tmp_path):
    with pytest.raises(UserError, match=r"storage") as refused:
        Staging(make_spec(storage=storage), tmp_path / "study")
    assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_full_disk_is_one_line_and_nothing_is_left(storage, make_spec, tmp_path, full_disk):
    staging = Staging(make_spec(storage=storage), tmp_path / "study")
    with full_disk(), pytest.raises(UserError, match=r"cannot be written .*; free space, or") as refused:
        staging.publish()
    staging.discard()
    assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_server_that_restarts_is_waited_for_and_nothing_is_lost(make_spec, tmp_path, capfd):
    with postgres.server() as own, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", postgres.PASSWORD)
        spec = make_spec(storage=own.url)
        directory = made(spec, tmp_path / "study")
        with driving(spec, directory) as study:
            bridge = Bridge(study, spec, directory)
            bridge.ask()
            assert not bridge.report(0, Report(5, 0.3))
            own.stop()
            back = threading.Timer(1.5, own.start)
            back.start()
            assert not bridge.report(0, Report(10, 0.4))
            back.join()
            bridge.ask()
        assert "waiting up to 600 s" in capfd.readouterr().out
        trials = read_study(directory).trials
        assert [trial.state for trial in trials] == ["RUNNING", "RUNNING"]
        with driving(spec, directory) as study:
            assert study.trials[0].intermediate_values == {5: 0.3, 10: 0.4}


def test_a_locked_database_is_waited_for(make_spec, tmp_path):
    import sqlite3

    spec = make_spec()
    (tmp_path / "trials").mkdir()
    create_study(spec, tmp_path)
    with driving(spec, tmp_path) as study:
        bridge = Bridge(study, spec, tmp_path)
        bridge.ask()
        other = sqlite3.connect(tmp_path / "optuna.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(1.5, lambda: other.execute("ROLLBACK"))
        timer.start()
        assert not bridge.report(0, Report(5, 0.3))
        timer.join()
        other.close()
    assert study.trials[0].intermediate_values == {5: 0.3}
