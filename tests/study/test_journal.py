"""A journal whose last line was torn is gone on with as if that had never been begun."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from study.backend import FILES
from study.bridge import Bridge
from study.cli import main
from study.directory import Staging
from study.journal import cut_torn_line
from study.results import read_study
from study.storage import driving
from trainer.errors import UserError


@pytest.fixture
def journaled(make_spec, tmp_path: Path) -> tuple[Bridge, Path]:
    """A study in a journal in which two trials have begun, and its journal."""
    staging = Staging(make_spec(storage="journal"), directory := tmp_path / "study")
    staging.publish()
    staging.discard()
    with driving(staging.spec, directory) as study:
        bridge = Bridge(study, staging.spec, directory)
        bridge.ask()
        bridge.ask()
    return bridge, directory / FILES["journal"]


@pytest.mark.parametrize("torn", [1, 20, 60])
def test_a_torn_last_line_is_cut_off_before_anything_is_written(journaled, torn) -> None:
    bridge, file = journaled
    whole = file.read_bytes()
    file.write_bytes(whole[:-torn])
    assert len(read_study(bridge.directory).trials) == 2  # what reads leaves it alone
    assert file.read_bytes() == whole[:-torn]
    with driving(bridge.spec, bridge.directory) as study:
        again = Bridge(study, bridge.spec, bridge.directory)
        for _ in range(3):
            again.ask()
    assert len(read_study(bridge.directory).trials) == 3
    assert file.read_bytes().startswith(whole[:-torn].rpartition(b"\n")[0] + b"\n{")
    assert (
        len(optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file))).get_all_studies())
        == 1
    )


@pytest.mark.parametrize(("text", "left"), [("", ""), ("{", ""), ("{}\n", "{}\n"), ("{}\n{}\n{", "{}\n{}\n")])
def test_only_what_has_no_line_end_is_cut(tmp_path: Path, text: str, left: str) -> None:
    (tmp_path / "log").write_text(text)
    cut_torn_line(tmp_path / "log")
    assert (tmp_path / "log").read_text() == left


@pytest.mark.parametrize("command", ["status", "resume"])
def test_a_damaged_line_within_is_told_with_its_number(journaled, command, monkeypatch, capfd) -> None:
    bridge, file = journaled
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:4], lines[4][:30], *lines[5:]]))
    with pytest.raises(UserError, match=rf"{file}: line 5 is no record \(.*\); restore the file"):
        read_study(bridge.directory)
    monkeypatch.setattr("sys.argv", ["fipo", command, str(bridge.directory)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and "line 5 is no record" in said
