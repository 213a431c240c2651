"""What single pages say, in Streamlit's own test runner; that each draws for every kind of study is in test_views."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from streamlit.testing.v1 import AppTest

from dashboards import frames, importance, palette, text
from dashboards.app import PAGES
from dashboards.source import Study
from study.export import TARGETS
from study.export.choice import choose_trials
from study.paired import common
from study.results import StudyResults
from study.spec import Plugin
from tests.dashboards import synthetic
from trainer.digits import per_cent

VIEWS = [module.__name__.rsplit(".", 1)[1] for module, *_ in PAGES]
Shown = Callable[..., AppTest]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Shown:
    def shown(results: StudyResults, view: str, **query: str | list[str]) -> AppTest:
        """One view of the study alone: AppTest opens no page of st.navigation but the first."""

        def script(view: str, study: object) -> None:
            import importlib

            importlib.import_module(f"dashboards.views.{view}").render(study)

        study = Study(results, frames.trials(results), frames.evaluations(results))
        app = AppTest.from_function(script, default_timeout=300, args=(view, study))
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        assert not app.exception, app.exception[0].value
        return app

    return shown


@pytest.mark.parametrize("view", VIEWS)
def test_markup_in_names_and_in_what_the_model_wrote_stays_text_on_every_page(
    finished: StudyResults, page: Shown, view: str
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


def test_the_best_trial_at_its_last_step_is_what_completions_open_with(finished: StudyResults, page: Shown) -> None:
    app = page(finished, "completions")
    assert finished.best is not None
    chosen = {box.label: box.value for box in app.selectbox}
    assert (chosen["Trial"], chosen["Training step"]) == (finished.best.number, 40)
    assert chosen["Response"] == "all that were kept"
    assert sum("Response 1, correct" in each.value or "Response 2, wrong" in each.value for each in app.markdown) == 2


def test_one_response_may_be_chosen_and_a_step_that_another_trial_lacks_gives_way(
    finished: StudyResults, page: Shown
) -> None:
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    app = page(finished, "completions")
    boxes = {box.label: box for box in app.selectbox}
    boxes["Response"].select("2: wrong, advantage -0.70")
    app = boxes["Trial"].select(pruned.number).run()
    assert not app.exception
    chosen = {box.label: box.value for box in app.selectbox}
    assert chosen["Training step"] == pruned.pruned_at
    assert [each.value for each in app.markdown if "Response 1" in each.value] == []


@pytest.mark.parametrize("query", ["../../../../etc", "/etc/passwd", "#999", "<img src=x>"])
def test_an_address_that_names_no_trial_of_the_study_opens_the_usual_one(
    finished: StudyResults, page: Shown, query: str
) -> None:
    app = page(finished, "completions", trial=query, step=query, problem=query, response=query)
    assert finished.best is not None
    assert app.selectbox[0].value == finished.best.number


def test_completions_outside_the_study_are_not_read(finished: StudyResults, page: Shown, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "completions"
    outside.mkdir(parents=True)
    synthetic.completions(5, text="secret").write_parquet(outside / "step-000005.parquet")
    link = tmp_path / "study" / "trials" / "0000"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside.parent)
    trial = dataclasses.replace(finished.trials[0], directory=link)
    app = page(dataclasses.replace(finished, directory=tmp_path / "study", trials=(trial,)), "completions")
    assert "No trial has kept a completion" in app.info[0].value


def test_a_long_response_is_shown_in_parts(finished: StudyResults, page: Shown, tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "0000" / "completions"
    folder.mkdir(parents=True)
    synthetic.completions(5, text="x" * 9000).write_parquet(folder / "step-000005.parquet")
    trial = dataclasses.replace(finished.trials[0], directory=folder.parent)
    app = page(dataclasses.replace(finished, directory=tmp_path, trials=(trial,)), "completions")
    parts = next(box for box in app.selectbox if box.label == "Tokens")
    assert list(parts.options) == ["1 to 4,000 of 9,000", "4,001 to 8,000 of 9,000", "8,001 to 9,000 of 9,000"]
    assert next(box for box in app.selectbox if box.label == "Response").value.startswith("1: correct")


def test_hyperparameters_compare_where_there_are_enough_trials_and_say_how_many(
    finished: StudyResults, page: Shown
) -> None:
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
    finished: StudyResults, page: Shown, monkeypatch: pytest.MonkeyPatch, trusted: int, beyond: bool, said: str | None,
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


def test_few_configurations_leave_the_colour_to_the_half_life(finished: StudyResults, page: Shown) -> None:
    colour = {box.label: box for box in page(finished, "length_accuracy").selectbox}["Colour"]
    assert colour.value == "fipo.half_life"


@pytest.mark.parametrize(("best", "shown"), [(None, "fipo.half_life"), (1.0, "fipo.gamma")])
def test_a_trial_whose_gamma_has_no_half_life_is_in_every_chart(
    finished: StudyResults, page: Shown, best: float | None, shown: str
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


def test_what_importance_puts_first_colours_the_charts_and_lays_out_the_map(
    finished: StudyResults, page: Shown, monkeypatch: pytest.MonkeyPatch
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


def test_hyperparameters_say_plainly_when_differences_are_within_noise(finished: StudyResults, page: Shown) -> None:
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


def test_a_complete_tie_is_said_to_be_one_and_has_no_map(finished: StudyResults, page: Shown) -> None:
    equal = [
        dataclasses.replace(trial, evaluations=finished.trials[0].evaluations, state="COMPLETE", value=0.5)
        for trial in finished.trials
    ]
    results = dataclasses.replace(finished, trials=tuple(equal))
    app = page(results, "parameters")
    assert "solved every problem equally often at this step: what was swept" in app.warning[0].value
    assert "No map: the accuracies of the 12 trials are all equal." in [each.value for each in app.caption]
    assert any("equally often at the last step" in each.value for each in page(results, "overview").markdown)


def test_confirmed_configurations_are_judged_against_the_noise_of_the_seed(finished: StudyResults, page: Shown) -> None:
    complete = [trial for trial in finished.trials if trial.state == "COMPLETE"][:2]
    again = [
        dataclasses.replace(trial, number=20 + 2 * i + j, confirms=trial.number, control=None, value=0.5 + 0.01 * j,
                            beside={"seed": 1 + j})
        for i, trial in enumerate(complete)
        for j in range(2)
    ]  # fmt: skip
    results = dataclasses.replace(finished, trials=(*finished.trials, *again))
    app = page(results, "parameters")
    assert any("2 confirmed configurations" in each.value for each in app.info)
    step = app.select_slider[0].value
    own = sum(trial.evaluations[-1].step >= step for trial in finished.trials)  # fresh seeds are no other settings
    assert any(
        f"{own} trials do" in each.value or f"{own} trials differ" in each.value for each in [*app.info, *app.warning]
    )
    (plane,) = [json.loads(each.proto.spec) for each in app.get("plotly_chart") if "plane" in each.proto.id]
    (points,) = [each for each in plane["data"] if each["mode"] == "markers" and each["name"] == "complete"]
    configurations = [trial for trial in finished.trials if trial.state == "COMPLETE"]
    assert len(points["text"]) == len(configurations), "a point for each configuration, not one for each seed"
    legend = json.loads(page(results, "compare").get("plotly_chart")[0].proto.spec)["data"]
    assert not any("confirms" in str(each.get("name")) for each in legend)
    assert complete[0].control == "DAPO"
    lines = [each.value.replace("\\", "") for each in page(results, "overview").markdown]
    (said,) = [each for each in lines if "against DAPO" in each]
    trial = f"Trial {complete[1].number}"
    assert said.startswith(f"{trial} against DAPO (trial 0), over 2 fresh seeds of both, paired: +0.0 points on")
    assert "sums_select/avg@8 (the same with every seed)" in said
    assert any(f"{trial} and DAPO differ in optimizer.learning_rate too" in each for each in lines)
    assert "on sums_select/avg@8" in said and "on sums_report/avg@8" in said


def test_fresh_seeds_that_agree_leave_the_error_of_a_run_and_no_error_of_zero(
    finished: StudyResults, page: Shown
) -> None:
    best = finished.best
    assert best is not None
    score = best.evaluations[-1].scores[0]
    every = {"solved": (8,) * 30, "accuracy": 1.0, "sampling_error": 0.0, "problem_error": 0.0}
    last = best.evaluations[-1].model_copy(update={"scores": (score.model_copy(update=every),)})
    again = [dataclasses.replace(best, number=20 + i, confirms=best.number, value=1.0, evaluations=(last,),
                                 beside={"seed": 1 + i})
             for i in range(2)]  # fmt: skip
    app = page(dataclasses.replace(finished, trials=(*finished.trials, *again)), "overview")
    said = app.metric[0].delta.replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith("all 2 fresh seeds the same; each sampling ≥ 98.5 %") and "95 % sure" in said
    (table,) = [each.value for each in app.dataframe if "seeds" in each.value.columns]
    assert table["error"].to_list() == ["(all the same)"]


def test_seeds_that_a_configuration_lost_are_told_wherever_its_mean_is(finished: StudyResults, page: Shown) -> None:
    best = finished.best
    assert best is not None
    ends = [("COMPLETE", 0.9), ("PRUNED", None), ("FAIL", None)]
    again = [dataclasses.replace(best, number=20 + i, confirms=best.number, state=state, value=value, control=None,
                                 evaluations=best.evaluations if value else (), beside={"seed": 1 + i})
             for i, (state, value) in enumerate(ends)]  # fmt: skip
    results = dataclasses.replace(finished, trials=(*finished.trials, *again))
    app = page(dataclasses.replace(results, trials=(best, *again)), "overview")
    assert (app.metric[0].value, app.metric[0].delta) == ("90.0 %", "1 of 3 fresh seeds (1 collapsed, 1 failed)")
    (table,) = [each.value for each in app.dataframe if "seeds" in each.value.columns]
    assert table.iloc[0][["seeds", "mean", "error"]].to_list() == ["1 of 3 (1 collapsed, 1 failed)", 90.0, ""]
    captions = [each.value for each in page(results, "parameters").caption]
    assert any("2 fresh seeds of" in each and "the mean over fresh seeds is without" in each for each in captions)
    assert not any("is without" in each.value for each in page(finished, "parameters").caption)


@pytest.mark.parametrize("metric", ["cons@k", "pass@k"])
def test_the_first_card_is_of_the_metric_that_the_study_maximizes(
    finished: StudyResults, page: Shown, metric: str
) -> None:
    best = finished.best
    assert best is not None
    score = best.evaluations[-1].scores[0].model_copy(update={"cons": 0.123, "pass_at_k": 0.123})
    last = best.evaluations[-1].model_copy(update={"scores": (score, *best.evaluations[-1].scores[1:])})
    trials = list(finished.trials)
    trials[best.number] = dataclasses.replace(best, evaluations=(*best.evaluations[:-1], last))
    spec = finished.spec.model_copy(update={"metric": metric})
    card = page(dataclasses.replace(finished, spec=spec, trials=tuple(trials)), "overview").metric[0]
    name = f"Best {metric.replace('@k', '@8')}, sums_select"
    assert (card.label.replace("\\", ""), card.value) == (name, "12.3 %")
    assert card.delta == f"avg@8 {per_cent(score.accuracy)} %"
    complete = sum(trial.state == "COMPLETE" for trial in finished.trials)
    assert f"The best of {complete} COMPLETE among 12 trials by sums_select/{name[5:-13]}" in card.help


def test_more_than_two_trials_are_compared_with_the_control(finished: StudyResults, page: Shown) -> None:
    app = page(finished, "compare")
    scores = app.dataframe[0].value
    assert len(scores) > 2
    against = next(box for box in app.selectbox if box.label == "Against")
    assert against.value == 0
    assert scores.loc[scores["label"] == "DAPO (#0)", "difference"].isna().all()
    assert scores["difference"].notna().sum() == len(scores) - 1


@pytest.mark.parametrize(("metric", "column"), [("cons@k", "cons"), ("pass@k", "pass_at_k")])
def test_the_table_shows_what_the_study_maximizes(
    finished: StudyResults, page: Shown, metric: str, column: str
) -> None:
    spec = finished.spec.model_copy(update={"metric": metric, "pruner": Plugin(name="none")})
    table = page(dataclasses.replace(finished, spec=spec), "overview").dataframe[0].value
    assert list(table.columns).index(column) == list(table.columns).index("accuracy") - 1
    newest = finished.trials[1].newest("sums_select")
    assert newest is not None
    row = table.loc[table["label"] == "#1"]
    assert row[column].item() == pytest.approx(100 * (newest.cons if column == "cons" else newest.pass_at_k))
    assert column not in page(finished, "overview").dataframe[0].value.columns


def test_a_study_without_a_pruner_is_said_to_have_none(finished: StudyResults, page: Shown) -> None:
    spec = finished.spec.model_copy(update={"pruner": Plugin(name="none")})
    complete = tuple(dataclasses.replace(each, state="COMPLETE", pruned_at=None) for each in finished.trials[:3])
    app = page(dataclasses.replace(finished, spec=spec, trials=complete), "pruning")
    assert app.info[0].value == "The study has no pruner: each trial runs to its last step."
    by_hand = dataclasses.replace(complete[2], state="PRUNED", pruned_at=5, stop_reason="stopped by hand")
    app = page(dataclasses.replace(finished, spec=spec, trials=(*complete[:2], by_hand)), "pruning")
    assert app.markdown[0].value == "The study has no pruner, 1 ended early for another reason."


def test_trials_that_differ_beside_the_space_alone_are_compared(
    finished: StudyResults, page: Shown, tmp_path: Path
) -> None:
    """Two controls, before a first trial is sampled or in a study of nothing else."""
    trials = []
    for trial, beside in zip(finished.trials[:2], ({}, {"fipo.clip_high": 0.2}), strict=True):
        directory = tmp_path / f"{trial.number}"
        shutil.copytree(trial.directory, directory)
        config = yaml.safe_load((finished.trials[0].directory / "config.yaml").read_text())
        config["fipo"] |= {"clip_high": 0.2} if beside else {}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        trials.append(
            dataclasses.replace(
                trial, params=finished.trials[0].params, control=f"c{trial.number}", beside=beside, directory=directory
            )
        )
    app = page(dataclasses.replace(finished, trials=tuple(trials)), "compare")
    settings = app.dataframe[1].value
    assert settings["parameter"].to_list() == [text.label("fipo.clip_high")]
    overview = page(dataclasses.replace(finished, trials=tuple(trials[:1])), "overview")
    (line,) = [each.value for each in overview.markdown if each.value.startswith("Best configuration")]
    assert "life τ" in line and "discount γ" in line


def test_complete_trials_are_compared_at_their_end_and_a_pruned_one_only_when_chosen(
    finished: StudyResults, page: Shown
) -> None:
    app = page(finished, "compare")
    assert set(app.dataframe[0].value["state"]) == {"complete"}
    assert any("Compared at training step 40," in each.value for each in app.markdown)
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    app = page(finished, "compare", trials=["DAPO (#0)", "#1", f"#{pruned.number}"])
    (warning,) = [each.value.replace("\\", "") for each in app.warning]
    assert f"training step {pruned.pruned_at}," in warning and f"#{pruned.number} (pruned) comes no further" in warning
    scores = app.dataframe[0].value.set_index("label")
    then = next(each for each in finished.trials[0].evaluations if each.step == pruned.pruned_at)
    assert scores.loc["DAPO (#0)", "accuracy"] == pytest.approx(100 * then.scores[0].accuracy)


def test_a_trial_that_was_not_evaluated_after_training_began_is_left_out_by_name(
    finished: StudyResults, page: Shown
) -> None:
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    app = page(finished, "compare", trials=["DAPO (#0)", "#1", f"#{pruned.number}"], set="sums_report")
    assert f"#{pruned.number}" in app.info[0].value.replace("\\", "")
    assert app.dataframe[0].value["label"].to_list() == ["DAPO (#0)", "#1"]


def test_problems_of_a_race_that_ended_early_are_compared_by_their_rates(raced: StudyResults, page: Shown) -> None:
    app = page(raced, "compare", trials=["#1", "#2"], against="#2")
    assert any("8 responses per problem, of #1 2" in each.value.replace("\\", "") for each in app.caption)
    rates = app.dataframe[-1].value[["#1", "#2"]]
    assert rates.max().max() <= 1
    step, at_step = common(raced, "sums_select", [1, 2])  # type: ignore[misc]
    one, two = at_step[1], at_step[2]
    assert (step, one.samples, two.samples) == (10, 2, 8)
    scores = app.dataframe[0].value.set_index("label")
    assert scores.loc["#1", "difference"] == pytest.approx(100 * (rates["#1"].mean() - rates["#2"].mean()))
    assert scores.loc["#1", "sampling_error"] == pytest.approx(100 * one.sampling_error)
    assert page(raced, "overview").dataframe[0].value.set_index("label").loc["#1", "samples"] == 2
    pruned = page(raced, "pruning").dataframe[0].value.set_index("label")
    assert pruned.loc["#1", "samples"] == 2


@pytest.mark.parametrize("view", ["overview", "length_accuracy", "compare"])
def test_a_trial_that_solved_everything_has_a_bound_and_no_error_of_zero(
    finished: StudyResults, page: Shown, view: str
) -> None:
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


def test_training_warns_of_a_collapse_in_words_and_tells_why_a_trial_was_stopped(
    finished: StudyResults, page: Shown
) -> None:
    stopped = dataclasses.replace(finished.trials[0], stop_reason="collapsed: it fell")
    app = page(dataclasses.replace(finished, trials=(stopped, *finished.trials[1:])), "training")
    assert any("#0 was stopped" in each.value and "it fell" in each.value for each in app.warning)


def test_pruning_tells_the_pruner_from_other_reasons(finished: StudyResults, page: Shown) -> None:
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    trials = list(finished.trials)
    trials[pruned.number] = dataclasses.replace(pruned, stop_reason="stopped by hand")
    app = page(dataclasses.replace(finished, trials=tuple(trials)), "pruning")
    count = sum(trial.state == "PRUNED" for trial in finished.trials)
    assert f"pruned {count - 1} trials, 1 ended early for another reason" in app.markdown[0].value
    judged = [each for each in trials if each.state in ("COMPLETE", "PRUNED") and each.stop_reason is None]
    share = app.dataframe[0].value["spared_steps"].sum() / (finished.spec.steps * len(judged))
    assert f"spared **{text.number(100 * share)} %**" in app.markdown[0].value
    alone = page(dataclasses.replace(finished, trials=(trials[pruned.number],)), "pruning")
    assert alone.markdown[0].value.endswith("pruned 0 trials, 1 ended early for another reason.")
    assert "stopped by hand" in app.dataframe[1].value["why"].to_list()


def test_pruning_tells_what_its_pruner_saw(finished: StudyResults, page: Shown) -> None:
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    table, why = (each.value.set_index("label") for each in page(finished, "pruning").dataframe)
    before = [each.scores[0].accuracy for each in finished.trials[pruned.number].evaluations]
    said = why.loc[f"#{pruned.number}", "why"]
    assert f"median: {100 * before[-1]:.1f} % at step {pruned.pruned_at}, {100 * max(before):.1f} % at best" in said
    assert f"median of {table.loc[f'#{pruned.number}', 'compared']} completed trials" in said
    words = "worse: gap -0.229, P(worse by more than 0) = 0.984"
    trials = list(finished.trials)
    trials[pruned.number] = dataclasses.replace(pruned, pruner_reason=words)
    aime = finished.spec.model_copy(update={"pruner": Plugin(name="aime", references=3, level=0.8, patience=2)})
    app = page(dataclasses.replace(finished, spec=aime, trials=tuple(trials)), "pruning")
    assert app.dataframe[1].value.set_index("label").loc[f"#{pruned.number}", "why"].endswith(f": {words}")
    assert any("P is above 0.8 at 2 evaluations in a row" in each.value for each in app.caption)


def test_what_a_race_saved_is_told_where_there_is_one(finished: StudyResults, raced: StudyResults, page: Shown) -> None:
    assert not any("Racing" in each.value for each in page(finished, "pruning").markdown)
    sets = [{"name": "sums_select", "path": "embedded:select", "samples": 8, "every": 5, "first_look": 2}]
    spec = raced.spec.model_copy(update={"trainer": {**raced.spec.trainer, "evaluation": {"sets": sets}}})
    (said,) = [each.value for each in page(dataclasses.replace(raced, spec=spec), "pruning").markdown
               if "Racing" in each.value]  # fmt: skip
    whole = 30 * 8 * sum(len(trial.evaluations) for trial in raced.trials)
    assert f"drew {whole - 30 * 6:,} of the {whole:,} responses" in said


def test_an_axis_with_fewer_responses_than_planned_does_not_say_the_planned_k(
    finished: StudyResults, raced: StudyResults, page: Shown
) -> None:
    for results, title in ((finished, "sums_select/avg@8"), (raced, "sums_select/avg@k")):
        charts = page(results, "pruning").get("plotly_chart")
        assert json.loads(charts[0].proto.spec)["layout"]["yaxis"]["title"]["text"] == title


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_shows_a_preview_or_why_not_and_the_command(
    finished: StudyResults, page: Shown, target: str
) -> None:
    app = page(finished, "export")
    app = app.selectbox[0].select(target).run()
    assert not app.exception
    assert app.code or app.error
    assert any(f"--to {target}" in each.value for each in app.code)


def test_the_front_is_of_the_trials_that_an_export_of_it_takes(finished: StudyResults, page: Shown) -> None:
    (chart, *_) = page(finished, "length_accuracy", over="Pareto front").get("plotly_chart")
    front = next(each for each in json.loads(chart.proto.spec)["data"] if each.get("name") == "Pareto front")
    taken = choose_trials(finished, pareto=True)
    assert all(trial.state == "COMPLETE" for trial in taken)
    x = front["x"]  # an array goes to the browser in base 64
    drawn = np.frombuffer(base64.b64decode(x["bdata"]), x["dtype"]) if isinstance(x, dict) else np.array(x)
    lengths = [trial.evaluations[-1].scores[0].mean_length for trial in taken]
    assert sorted(drawn) == pytest.approx(sorted(lengths))


def test_what_a_control_has_beside_the_space_is_told_with_it(finished: StudyResults, page: Shown) -> None:
    """GRPO needs another clip: what is swept alone would show DAPO's setting under its name."""
    best = finished.best
    assert best is not None
    own = dataclasses.replace(
        best, control="GRPO", beside={"fipo.clip_high": 0.2, "fipo.aggregation": "seq-mean-token-mean"}
    )
    trials = [own if trial.number == best.number else trial for trial in finished.trials]
    app = page(dataclasses.replace(finished, trials=tuple(trials)), "overview")
    (shown,) = [each.value.replace("\\", "") for each in app.markdown if "Best configuration" in each.value]
    assert "GRPO (#" in shown and "fipo.clip_high **0.2**" in shown and "**seq-mean-token-mean**" in shown
    (told,) = [each.value.replace("\\", "") for each in app.caption if "not in space" in each.value]
    assert told.endswith("not in space: fipo.clip_high 0.2, fipo.aggregation seq-mean-token-mean")


def test_a_control_with_settings_that_are_not_swept_says_nothing_of_what_is(
    finished: StudyResults, page: Shown
) -> None:
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


def test_another_seed_is_no_other_setting(finished: StudyResults) -> None:
    assert dataclasses.replace(finished.trials[0], beside={"seed": 3}).unswept == {}
