"""Every page on every kind of study, in Streamlit's own test runner: a helpful state, never a traceback."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.app import PAGES
from study.results import StudyResults
from tests.dashboards.synthetic import SyntheticStudy

Make = Callable[[Path, StudyResults], Path]
MODULES = [module.__name__.rsplit(".", 1)[1] for module, *_ in PAGES]


def draw(directory: str, module: str) -> None:
    """What `app` does for one page, without the navigation, which AppTest does not drive."""
    import importlib

    from dashboards import source, states
    from dashboards.catalogue import Entry

    study = source.reader(Entry("study", directory)).latest().found
    states.sidebar(study)
    if states.ready(study):
        importlib.import_module(f"dashboards.views.{module}").render(study)


def running(directory: Path, finished: StudyResults) -> Path:
    study = SyntheticStudy(directory, steps=20)
    study.run(study.begin())
    study.run(study.begin(), until=12)
    study.begin()
    return directory


def with_states(update: str) -> Make:
    """A copy of the finished study with `update` made to its trials in Optuna's table."""

    def make(directory: Path, finished: StudyResults) -> Path:
        shutil.copytree(finished.directory, directory)
        with sqlite3.connect(directory / "optuna.db") as database:
            database.execute(f"UPDATE trials SET {update}")
        return directory

    return make


def not_a_number(directory: Path, finished: StudyResults) -> Path:
    return rewritten(shutil.copytree(finished.directory, directory), r'"accuracy": [^,]+', '"accuracy": NaN')


def sparse(directory: Path, finished: StudyResults) -> Path:
    """One response per problem, which has no sampling error, and neither training metrics nor completions."""
    rewritten(shutil.copytree(finished.directory, directory), r'"(\w+)_error": [^,]+', r'"\1_error": null')
    for trial in directory.glob("trials/*"):
        (trial / "metrics.jsonl").unlink()
        shutil.rmtree(trial / "completions", ignore_errors=True)
    return directory


def rewritten(directory: Path, pattern: str, replacement: str) -> Path:
    for lines in directory.glob("trials/*/evaluations.jsonl"):
        lines.write_text(re.sub(pattern, replacement, lines.read_text(encoding="utf-8")), encoding="utf-8")
    return directory


def damaged(directory: Path, finished: StudyResults) -> Path:
    """Half-written lines, an empty file and a completion that is no Parquet."""
    shutil.copytree(finished.directory, directory)
    for number in range(4):
        for name in ("evaluations.jsonl", "metrics.jsonl"):
            lines = directory / "trials" / f"{number:04d}" / name
            lines.write_text(lines.read_text(encoding="utf-8")[: (0, 40, 700, 2500)[number]], encoding="utf-8")
    for file in directory.glob("trials/*/completions/*.parquet"):
        file.write_bytes(b"PAR1 torn")
    shutil.rmtree(directory / "trials" / "0005")
    return directory


KINDS: dict[str, Make] = {
    "running": running,
    "one trial, stopped": with_states("state = iif(number = 1, 'RUNNING', 'WAITING'), datetime_complete = NULL"),
    "failed": with_states("state = 'FAIL'"),
    "all pruned": with_states("state = 'PRUNED'"),
    "damaged": damaged,
    "accuracy not a number": not_a_number,
    "sparse": sparse,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_page_shows_something_for_every_kind_of_study(kind: str, finished: StudyResults, tmp_path: Path) -> None:
    directory = KINDS[kind](tmp_path / "study", finished)
    for module in MODULES:
        app = AppTest.from_function(draw, args=(str(directory), module), default_timeout=120).run()
        assert not app.exception, f"{module}: {app.exception[0].message}"
        assert app.title, module
