from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dashboards import configs
from study.results import StudyResults


def test_the_complete_configuration_is_read_by_dotted_key(finished: StudyResults) -> None:
    trial = finished.trials[3]
    config = configs.read(trial)
    assert {key: config[key] for key in trial.params} == pytest.approx(trial.params)
    assert config["steps"] == 40 and config["fipo.dual_clip"] == 10


@pytest.mark.parametrize("content", [None, "a: [", "- 1", b"\xff\xfe\x00"])
def test_without_a_readable_file_the_sampled_values_are_all_that_is_known(
    finished: StudyResults, tmp_path: Path, content: str | bytes | None
) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    trial = dataclasses.replace(finished.trials[3], directory=tmp_path)
    assert configs.read(trial) == trial.params


def test_only_what_differs_is_listed_with_the_given_keys_first() -> None:
    found = {
        "#1": {"steps": 24, "seed": 0, "fipo.half_life": 32.0, "data.train": "x"},
        "#2": {"steps": 24, "seed": 1, "fipo.half_life": 8.0, "data.train": "x", "fipo.gamma": None},
    }
    table = configs.differing(found, first=["fipo.half_life"])
    assert table.rows() == [("half-life τ (tokens)", "32", "8"), ("discount γ", "", "none"), ("seed", "0", "1")]


def test_equal_configurations_differ_in_nothing() -> None:
    assert configs.differing({"#1": {"seed": 0}, "#2": {"seed": 0}}, first=[]).is_empty()


def test_lists_are_compared_as_a_whole() -> None:
    table = configs.differing({"#1": configs.flat({"a": {"b": [1, 2]}}), "#2": {"a.b": [1]}}, first=[])
    assert table.rows() == [("a.b", "[1, 2]", "[1]")]
