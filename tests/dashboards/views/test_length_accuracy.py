"""The length-accuracy page: its colours and its front."""

from __future__ import annotations

import json

import pytest

from study.export.choice import choose_trials
from study.results import StudyResults
from tests.dashboards.pages import drawn, page


def test_few_configurations_leave_the_colour_to_the_half_life(finished: StudyResults) -> None:
    colour = {box.label: box for box in page(finished, "length_accuracy").selectbox}["Colour"]
    assert colour.value == "fipo.half_life"


def test_the_front_is_of_the_trials_that_an_export_of_it_takes(finished: StudyResults) -> None:
    (chart, *_) = page(finished, "length_accuracy", over="Pareto front").get("plotly_chart")
    front = next(each for each in json.loads(chart.proto.spec)["data"] if each.get("name") == "Pareto front")
    taken = choose_trials(finished, pareto=True)
    assert all(trial.state == "COMPLETE" for trial in taken)
    lengths = [trial.evaluations[-1].scores[0].mean_length for trial in taken]
    assert sorted(drawn(front["x"])) == pytest.approx(sorted(lengths))
