from __future__ import annotations

import sys

import pytest

from study.results import StudyResults, read_study
from tests.dashboards.synthetic import ended_early, write_study


@pytest.fixture(autouse=True)
def _main_module_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest leaves its script behind as the main module, which processes that multiprocessing starts would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """A finished study of 12 trials, some pruned, the first the DAPO control."""
    return read_study(write_study(tmp_path_factory.mktemp("studies") / "finished", trials=12))


@pytest.fixture(scope="session")
def raced(finished: StudyResults) -> StudyResults:
    """The same study, but that trial 1 was pruned at step 10 after two samples of eight."""
    return ended_early(finished, 1, step=10, samples=2)
