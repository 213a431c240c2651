from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dashboards import catalogue
from dashboards.catalogue import Entry
from study.results import StudyResults
from trainer.errors import UserError


@pytest.fixture
def two(tmp_path: Path, finished: StudyResults) -> Path:
    """A directory with an older and a newer study, and something that is none."""
    place = tmp_path / "place"
    for name, when in (("older", 1_000), ("newer", 2_000)):
        shutil.copytree(finished.directory, place / name)
        os.utime(place / name / "study.yaml", (when, when))
    (place / "notes").mkdir()
    return place


def test_a_directory_of_studies_gives_each_the_newest_first(two: Path) -> None:
    assert catalogue.entries([str(two)]) == [Entry("newer", str(two / "newer")), Entry("older", str(two / "older"))]


def test_several_places_keep_their_order_and_a_study_named_twice_is_one(two: Path) -> None:
    places = [str(two / "older"), str(two), str(two / "older")]
    assert [each.name for each in catalogue.entries(places)] == ["older", "newer"]


def test_two_studies_of_one_name_are_told_apart_by_the_directory_above(two: Path, tmp_path: Path) -> None:
    shutil.copytree(two / "newer", tmp_path / "else" / "newer")
    names = [each.name for each in catalogue.entries([str(two / "newer"), str(tmp_path / "else")])]
    assert names == ["place/newer", "else/newer"]


def test_studies_below_directories_of_one_name_are_told_apart_by_those_further_up(two: Path, tmp_path: Path) -> None:
    for above in ("a", "b"):
        shutil.copytree(two / "newer", tmp_path / above / "studies" / "newer")
    places = [str(tmp_path / above / "studies") for above in ("a", "b")] + [str(two)]
    names = [each.name for each in catalogue.entries(places)]
    assert names == ["a/studies/newer", "b/studies/newer", "place/newer", "older"]


def test_an_optuna_storage_gives_its_studies_by_name(two: Path) -> None:
    url = f"sqlite:///{two / 'older' / 'optuna.db'}"
    assert catalogue.entries([url]) == [Entry("synthetic", url, "synthetic")]


def test_a_hidden_study_in_the_making_is_not_listed(two: Path) -> None:
    (two / "newer").rename(two / ".newer.staging")
    assert [each.name for each in catalogue.entries([str(two)])] == ["older"]


def test_a_study_that_begins_later_is_listed_then(two: Path, tmp_path: Path) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    assert catalogue.entries([str(place)]) == []
    shutil.copytree(two / "newer", place / "newer")
    assert [each.name for each in catalogue.entries([str(place)])] == ["newer"]


@pytest.mark.parametrize("place", ["missing", "notes", "sqlite:///missing.db"])
def test_a_place_without_a_study_is_one_line_that_names_it(
    two: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(two)
    with pytest.raises(UserError, match=place) as error:
        catalogue.checked([place])
    assert "\n" not in str(error.value)
    assert not (two / "missing.db").exists()


def test_without_a_place_it_is_the_studies_directory(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(two.parent)
    two.rename(two.parent / "studies")
    assert catalogue.checked([]) == [str(two.parent / "studies")]
