"""What several pages say alike; that each draws for every kind of study is in test_views."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from dashboards.app import PAGES
from study.results import StudyResults
from tests.dashboards.pages import page

VIEWS = [module.__name__.rsplit(".", 1)[1] for module, *_ in PAGES]


@pytest.mark.parametrize("view", VIEWS)
def test_markup_in_names_and_in_what_the_model_wrote_stays_text_on_every_page(
    finished: StudyResults, view: str
) -> None:
    hostile = "<img src=x onerror=alert(1)> [y](http://example.org) $z$ :blue[w]"
    first = dataclasses.replace(finished.trials[0], control=hostile, stop_reason=hostile)
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    trials = [first, *finished.trials[1:]]
    trials[pruned.number] = dataclasses.replace(pruned, stop_reason=hostile)
    app = page(dataclasses.replace(finished, trials=tuple(trials)), view)
    shown = [*app.markdown, *app.caption, *app.title, *app.subheader, *app.info, *app.warning, *app.error, *app.metric]
    said = [str(getattr(each, "value", "")) + str(getattr(each, "label", "")) for each in shown]
    live = re.compile(r"(?<!\\)(<img|\]\(http|\$z|:blue\[)")
    assert said and not [each for each in said if live.search(each)]


@pytest.mark.parametrize("view", ["overview", "length_accuracy", "compare"])
def test_a_trial_that_solved_everything_has_a_bound_and_no_error_of_zero(finished: StudyResults, view: str) -> None:
    assert finished.best is not None
    score = finished.best.evaluations[-1].scores[0]
    every = {"solved": (8,) * 30, "accuracy": 1.0, "sampling_error": 0.0, "problem_error": 0.0}
    last = finished.best.evaluations[-1].model_copy(update={"scores": (score.model_copy(update=every),)})
    trials = list(finished.trials)
    evaluations = (*finished.best.evaluations[:-1], last)
    trials[finished.best.number] = dataclasses.replace(finished.best, evaluations=evaluations)
    app = page(dataclasses.replace(finished, trials=tuple(trials)), view)
    shown = app.dataframe[0].value.set_index("label").loc[f"#{finished.best.number}"]
    assert shown["accuracy"] == 100 and math.isnan(shown["sampling_error"])
    said = " ".join(each.value for each in app.caption).replace("\\", "")
    assert f"95 % sure: #{finished.best.number} ≥ 98.5 %" in said
    if view == "overview":
        assert "≥ 98.5 %" in app.metric[0].delta.replace("\N{NO-BREAK SPACE}", " ")
