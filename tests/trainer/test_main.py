"""`python -m trainer` says what is wrong once on every machine, and exits with 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.__main__ import main


@pytest.mark.parametrize(("rank", "local_rank", "says"), [("0", "0", True), ("8", "0", True), ("9", "1", False)])
def test_bad_input_is_one_line_on_the_first_rank_of_each_machine(
    rank: str,
    local_rank: str,
    says: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """A file may be missing on one machine only, and that one has to say so."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert main([str(tmp_path / "none.yaml"), "--out", str(tmp_path / "run")]) == 2
    expected = f"{tmp_path / 'none.yaml'}: no such file; give the path of a YAML file\n"
    assert capsys.readouterr().err == (expected if says else "")
    assert not (tmp_path / "run").exists()
