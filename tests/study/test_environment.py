"""What a study ran with, a line for each change."""

from __future__ import annotations

from study import environment
from study.environment import note_environment, noted_environment


def test_it_names_versions_and_commit():
    line = environment.environment()
    assert "torch 2." in line and "ray 2." in line and "commit" in line
    assert len(line.splitlines()) == 1


def test_a_study_that_goes_on_elsewhere_says_so_and_one_that_does_not_says_nothing(tmp_path, monkeypatch):
    assert noted_environment(tmp_path) is None
    for line in ("torch 1", "torch 1", "torch 2", "torch 2", "torch 1"):
        monkeypatch.setattr(environment, "environment", lambda line=line: line)
        note_environment(tmp_path)
    assert noted_environment(tmp_path) == "torch 1\ntorch 2\ntorch 1"
