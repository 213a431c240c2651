"""The export page."""

from __future__ import annotations

import pytest

from study.export import TARGETS
from study.results import StudyResults
from tests.dashboards.pages import page


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_shows_a_preview_or_why_not_and_the_command(finished: StudyResults, target: str) -> None:
    app = page(finished, "export")
    app = app.selectbox[0].select(target).run()
    assert not app.exception
    assert app.code or app.error
    assert any(f"--to {target}" in each.value for each in app.code)
