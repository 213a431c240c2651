"""The hyperparameters' page: what is compared at a step, and what is said of few trials, ties and controls."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import importance, palette, surface
from study.results import StudyResults
from tests.dashboards import synthetic
from tests.dashboards.pages import page


def test_hyperparameters_compare_where_there_are_enough_trials_and_say_how_many(finished: StudyResults) -> None:
    def said(app: AppTest) -> str:
        assert not app.exception
        return " ".join(each.value for each in [*app.info, *app.warning, *app.caption])

    app = page(finished, "parameters")
    step = app.select_slider[0].value
    there = sum(trial.evaluations[-1].step >= step for trial in finished.trials)
    assert step < 40 and there >= 8
    assert re.search(rf"\b{there} trials (do not )?differ", said(app))
    assert f"From {there} of {there} configurations at this step" in said(app)
    assert f"Of {there} configurations no parameter explains more, by the mean of the methods, than" in said(app)
    assert f"{there} of 12 trials were evaluated at step {step}; the last step is 40" in said(app)
    assert "pruned before it" not in said(app)
    last = app.select_slider[0].set_value(40).run()
    there = sum(trial.evaluations[-1].step == 40 for trial in finished.trials)
    assert f"{there} of 12 trials were evaluated at step 40." in said(last)
    hidden = sum(trial.state == "PRUNED" and trial.evaluations[-1].step < 40 for trial in finished.trials)
    assert hidden > 1 and f"{hidden} that were pruned before it are in no chart here." in said(last)
    assert f"A map needs 8 configurations with numbers for both that differ; there are {there}" in said(last)


@pytest.mark.parametrize(
    ("trusted", "beyond", "said", "opacity"),
    [(99, True, "a hint, not a finding", 0.35), (8, False, "no parameter explains more, by the mean", 0.35),
     (8, True, None, 1.0)],
)  # fmt: skip
def test_importance_that_is_no_finding_is_pale_and_said_to_be_above_the_chart(
    finished: StudyResults, monkeypatch: pytest.MonkeyPatch, trusted: int, beyond: bool, said: str | None,
    opacity: float,
) -> None:  # fmt: skip
    monkeypatch.setattr(importance, "TRUSTED", trusted)
    monkeypatch.setattr(importance, "beyond_chance", lambda _: beyond)
    app = page(finished, "parameters")
    shown = list(app.main.children.values())
    chart = next(i for i, each in enumerate(shown) if each.type == "plotly_chart" and "importances" in each.proto.id)
    assert {each["opacity"] for each in json.loads(shown[chart].proto.spec)["data"]} == {opacity}
    above = shown[chart - 1]
    assert said in above.value if said else above.value == "Importance"


@pytest.mark.parametrize(("best", "shown"), [(None, "fipo.half_life"), (1.0, "fipo.gamma")])
def test_a_trial_whose_gamma_has_no_half_life_is_in_every_chart(
    finished: StudyResults, best: float | None, shown: str
) -> None:
    swept = synthetic.with_gamma(finished, best=best)
    app = page(swept, "parameters")
    charts = {each.proto.id.split("-", 2)[-1]: json.loads(each.proto.spec) for each in app.get("plotly_chart")}
    there = sum(trial.evaluations[-1].step >= app.select_slider[0].value for trial in swept.trials)
    assert [key for key in charts if key.endswith(("half_life", "gamma"))] == [f"slice-{shown}"]
    assert {box.label: box.value for box in app.selectbox}["Across"] == shown
    for name in ("plane", f"slice-{shown}"):
        points = [trace for trace in charts[name]["data"] if trace["type"] == "scatter"]
        assert sum(len(trace["text"]) for trace in points) == there
    curves = page(swept, "length_accuracy")
    assert {box.label: box.value for box in curves.selectbox}["Colour"] == shown
    lines = json.loads(curves.get("plotly_chart")[0].proto.spec)["data"]
    assert palette.NEUTRAL not in [line["line"]["color"] for line in lines if line.get("meta") is not None]


def test_a_map_that_may_be_better_by_chance_alone_is_called_that(
    finished: StudyResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surface, "ENOUGH", 1000.0)
    monkeypatch.setattr(surface.Surface, "closer", True)
    said = " ".join(each.value for each in page(finished, "parameters").warning)
    assert "No map:" in said and re.search(r"may be chance: -?\d+\.\d standard errors, and a map needs 1000\.", said)
    assert "say little" not in said


def test_what_importance_puts_first_colours_the_charts_and_lays_out_the_map(
    finished: StudyResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "TRUSTED", 8)
    first, second = "optimizer.learning_rate", "fipo.epsilon_f_high"
    # Of a dozen trials nothing is beyond chance; here as if these were.
    monkeypatch.setattr(importance, "_means", lambda _: {first: 0.5, second: 0.3, importance.CHANCE: 0.2})
    app = page(finished, "parameters")
    boxes = {box.label: box for box in app.selectbox}
    assert (boxes["Across"].value, boxes["Up"].value) == (first, second)
    colour = {box.label: box for box in page(finished, "length_accuracy").selectbox}["Colour"]
    assert colour.value == first and colour.options[-1] == "trial state"


def test_hyperparameters_say_plainly_when_differences_are_within_noise(finished: StudyResults) -> None:
    equal = [
        dataclasses.replace(trial, evaluations=finished.trials[0].evaluations, state="COMPLETE")
        for trial in finished.trials
    ]
    last = equal[1].evaluations[-1]
    other = last.scores[0].model_copy(update={"solved": last.scores[0].solved[::-1]})
    evaluations = (*equal[1].evaluations[:-1], last.model_copy(update={"scores": (other, *last.scores[1:])}))
    equal[1] = dataclasses.replace(equal[1], evaluations=evaluations)
    app = page(dataclasses.replace(finished, trials=tuple(equal)), "parameters")
    assert "do not differ beyond sampling error" in app.warning[0].value


def test_a_metric_without_a_sampling_error_is_named_as_one(finished: StudyResults) -> None:
    spec = finished.spec.model_copy(update={"metric": "cons@k"})
    app = page(dataclasses.replace(finished, spec=spec), "parameters")
    told = "12 trials at step 5; sums_select/cons@8 has no known sampling error: differences cannot be judged."
    assert told in [each.value for each in app.info]


def test_one_trial_has_nothing_to_be_compared_with(finished: StudyResults) -> None:
    """Of two controls, one with a setting that no trial has."""
    other = dataclasses.replace(finished.trials[1], beside={"fipo.clip_high": 0.2})
    app = page(dataclasses.replace(finished, trials=(finished.trials[0], other)), "parameters")
    assert "1 trial at step 40: there is nothing to compare yet." in [each.value for each in app.info]
    assert "1 trial; the lighter a line, the better." in [each.value for each in app.caption]


def test_a_complete_tie_is_said_to_be_one_and_has_no_map(finished: StudyResults) -> None:
    equal = [
        dataclasses.replace(trial, evaluations=finished.trials[0].evaluations, state="COMPLETE", value=0.5)
        for trial in finished.trials
    ]
    results = dataclasses.replace(finished, trials=tuple(equal))
    app = page(results, "parameters")
    assert "solved every problem equally often at this step: what was swept" in app.warning[0].value
    assert "No map: the accuracies of the 12 trials are all equal." in [each.value for each in app.caption]
    assert any("equally often at the last step" in each.value for each in page(results, "overview").markdown)


def test_a_control_with_settings_that_are_not_swept_says_nothing_of_what_is(finished: StudyResults) -> None:
    """DAPO beside a half-life swept at fixed epsilon_f stands at a point of the space, and is another thing."""
    control = next(trial for trial in finished.trials if trial.control)
    beside = {"fipo.epsilon_f_low": 0.0, "fipo.clip_high": 0.2}
    again = dataclasses.replace(control, number=40, control=None, confirms=control.number, beside=beside | {"seed": 1})
    own = [dataclasses.replace(each, beside=beside) if each is control else each for each in finished.trials]
    app = page(dataclasses.replace(finished, trials=(*own, again)), "parameters")
    step = app.select_slider[0].value
    there = sum(trial.evaluations[-1].step >= step for trial in finished.trials) - 1
    said = " ".join(each.value.replace("\\", "") for each in [*app.info, *app.warning, *app.caption])
    assert f"{there} of 11 trials were evaluated at step {step}" in said
    assert re.search(rf"\b{there} trials (do not )?differ", said)
    assert f"Needs 8 configurations at this step; there are {there}." in said
    assert re.search(
        r"[.)] DAPO \(#0\) is in nothing here, not in space: fipo.epsilon_f_low 0, fipo.clip_high 0.2\.", said
    )
    charts = {each.proto.id.split("-", 2)[-1]: json.loads(each.proto.spec) for each in app.get("plotly_chart")}
    assert not any("DAPO" in str(chart["data"]) for chart in charts.values())
    alone = [dataclasses.replace(each, beside=beside) for each in finished.trials]
    (told,) = page(dataclasses.replace(finished, trials=tuple(alone)), "parameters").info
    assert told.value.startswith("No trial of which only what is swept is another")
