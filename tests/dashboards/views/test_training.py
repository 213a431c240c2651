"""The training page's warnings."""

from __future__ import annotations

import dataclasses

from study.results import StudyResults
from tests.dashboards.pages import page


def test_training_warns_of_a_collapse_in_words_and_tells_why_a_trial_was_stopped(finished: StudyResults) -> None:
    stopped = dataclasses.replace(finished.trials[0], stop_reason="collapsed: it fell")
    app = page(dataclasses.replace(finished, trials=(stopped, *finished.trials[1:])), "training")
    assert any("#0 was stopped" in each.value and "it fell" in each.value for each in app.warning)
