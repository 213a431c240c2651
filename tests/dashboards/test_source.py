from __future__ import annotations

import gc
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from dashboards import source
from dashboards.catalogue import Entry, entries
from dashboards.optuna_study import OptunaStudy
from dashboards.source import Reader, Study
from study.results import StudyResults, read_study
from tests.dashboards.synthetic import SyntheticStudy
from tests.study import postgres
from trainer.errors import UserError


def until(reader: Reader, version: int) -> None:
    """Ask as the watcher does, until there is something newer than `version`."""
    end = time.monotonic() + 60
    while not reader.newer_than(version):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Reader, Callable[[], None]]]:
    """The reader of a study whose one trial has run to step 5, and what runs it on to step 10."""
    study = SyntheticStudy(tmp_path / "live")
    trial = study.begin()
    study.run(trial, until=5)
    yield Reader(Entry("live", str(study.directory))), lambda: study.run(trial, after=5, until=10)
    study.close()


def test_a_new_evaluation_is_a_new_reading_and_silence_is_none(live: tuple[Reader, Callable[[], None]]) -> None:
    reader, run_on = live
    first = reader.latest()
    assert isinstance(first.found, Study) and not reader.newer_than(first.version)
    run_on()
    until(reader, first.version)
    second = reader.latest().found
    assert isinstance(second, Study) and second.evaluations["step"].max() == 10


def test_what_changes_while_a_study_is_read_is_read_again(
    live: tuple[Reader, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, run_on = live

    def as_it_was(directory: Path) -> StudyResults:
        results = read_study(directory)
        monkeypatch.undo()
        run_on()
        return results

    monkeypatch.setattr(source, "read_study", as_it_was)
    first = reader.latest()
    assert isinstance(first.found, Study) and first.found.evaluations["step"].max() == 5
    until(reader, first.version)
    second = reader.latest().found
    assert isinstance(second, Study) and second.evaluations["step"].max() == 10


def test_who_opens_a_study_sees_it_as_it_is_and_not_as_someone_saw_it_last(
    live: tuple[Reader, Callable[[], None]],
) -> None:
    reader, run_on = live
    first = reader.current()
    assert reader.current() is first
    run_on()
    assert reader.latest() is first
    now = reader.current().found
    assert isinstance(now, Study) and now.evaluations["step"].max() == 10


@pytest.mark.parametrize(
    ("entry", "title"),
    [
        ("synthetic", "synthetic"),
        ("synthetic-2", "synthetic (synthetic-2)"),
        ("b/synthetic", "synthetic (b/synthetic)"),
    ],
)
def test_two_studies_of_one_name_have_titles_of_their_own(finished: StudyResults, entry: str, title: str) -> None:
    found = Reader(Entry(entry, str(finished.directory))).latest().found
    assert isinstance(found, Study) and found.title == title


def test_a_file_that_says_nothing_new_redraws_no_page(finished: StudyResults, tmp_path: Path) -> None:
    copy = shutil.copytree(finished.directory, tmp_path / "copy")
    reader = Reader(Entry("copy", str(copy)))
    first = reader.latest()
    (copy / "trials" / "0001" / "metrics.jsonl").touch()
    reader.newer_than(first.version)
    reader.refresh().result()
    assert reader.latest() is first


def test_the_garbage_collector_does_not_look_through_a_study_at_every_run_of_a_page(finished: StudyResults) -> None:
    found = Reader(Entry("study", str(finished.directory))).latest().found
    assert isinstance(found, Study)
    own = {id(each) for trial in found.results.trials for each in trial.evaluations}
    assert own and not own & {id(each) for each in gc.get_objects()}


def test_a_study_that_breaks_and_mends_is_followed(finished: StudyResults, tmp_path: Path) -> None:
    copy = shutil.copytree(finished.directory, tmp_path / "copy")
    reader, spec = Reader(Entry("copy", str(copy))), (copy / "study.yaml").read_text()
    first = reader.latest().version
    (copy / "study.yaml").write_text("name: [")
    until(reader, first)
    broken = reader.latest()
    assert isinstance(broken.found, UserError)
    (copy / "study.yaml").write_text(spec)
    until(reader, broken.version)
    assert isinstance(reader.latest().found, Study)


def test_a_study_that_cannot_be_read_any_more_is_not_shown_as_it_was(
    finished: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(finished.directory, tmp_path / "copy")
    reader = Reader(Entry("copy", str(copy)))
    first = reader.latest()
    assert isinstance(first.found, Study)

    def fail(directory: Path) -> StudyResults:
        raise ZeroDivisionError("of no one's thought")

    whole = source.read_study
    monkeypatch.setattr(source, "read_study", fail)
    (copy / "study.yaml").touch()
    until(reader, first.version)
    line = "copy: cannot be read (of no one's thought); the terminal that runs the dashboard says more"
    assert str(reader.latest().found).endswith(line)
    monkeypatch.setattr(source, "read_study", whole)  # which no file tells of
    until(reader, first.version + 1)
    assert isinstance(reader.latest().found, Study)


def test_reading_without_pause_stops_no_driver_from_writing(tmp_path: Path) -> None:
    study = SyntheticStudy(tmp_path / "live", metrics=False)
    trial = study.begin()
    study.run(trial, until=2)
    reader, stop = Reader(Entry("live", str(study.directory))), threading.Event()

    def read() -> None:
        while not stop.is_set():
            reader.refresh().result()

    reading = threading.Thread(target=read)
    reading.start()
    try:
        study.run(trial, after=2)  # a locked database would raise here
    finally:
        stop.set()
        reading.join()
    study.close()
    found = Reader(Entry("live", str(study.directory))).latest().found
    assert isinstance(found, Study) and found.trials["state"].to_list() == ["COMPLETE"]


def test_an_optuna_storage_is_asked_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ASK_STORAGE_EVERY", 0.1)
    url = f"sqlite:///{tmp_path / 'other.db'}"
    other = optuna.create_study(study_name="other", storage=url)
    reader = Reader(Entry("other", url, "other"))
    first = reader.latest()
    assert isinstance(first.found, OptunaStudy) and first.found.trials == ()
    other.tell(other.ask(), 1.0)
    until(reader, first.version)
    second = reader.latest().found
    assert isinstance(second, OptunaStudy) and second.trials[0].value == 1.0


def test_a_study_whose_database_is_no_file_is_read_again_after_a_while(
    finished: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(finished.directory, tmp_path / "copy")
    (copy / "optuna.db").unlink()
    stamps = set()
    for now in (0.0, 1.0, 100.0):
        monkeypatch.setattr(source.time, "monotonic", lambda now=now: now)
        stamps.add(source.fingerprint(copy))
    assert len(stamps) == 2


def test_a_study_whose_trials_lie_on_a_server_is_followed_like_any_other(
    server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "ASK_DATABASE_EVERY", 0.1)
    name = f"live-{os.getpid()}"
    study = SyntheticStudy(tmp_path / "live", name=name, storage=server.url, metrics=False)
    trial = study.begin()
    study.run(trial, until=5)
    reader = Reader(Entry("live", str(study.directory)))
    first = reader.latest()
    assert isinstance(first.found, Study) and first.found.trials["state"].to_list() == ["RUNNING"]
    before = study.study.trials
    study.run(trial, after=5)
    until(reader, first.version)
    while (last := reader.latest().found).trials["state"].to_list() != ["COMPLETE"]:  # type: ignore[union-attr]
        until(reader, reader.latest().version)
    assert isinstance(last, Study) and last.results.best is not None
    assert len(study.study.trials) == len(before) == 1  # nothing was added by reading
    entry = next(each for each in entries([server.url]) if each.study == name)
    bare = Reader(entry).latest().found
    assert isinstance(bare, OptunaStudy) and bare.trials[0].value == last.results.best.value
    assert postgres.PASSWORD not in bare.url
    study.close()
