from __future__ import annotations

import pytest

from study.results import StudyResults, read_study
from tests.dashboards.synthetic import write_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """A finished study of 12 trials, some pruned, the first the DAPO control."""
    return read_study(write_study(tmp_path_factory.mktemp("studies") / "finished", trials=12))
