"""The overview: the best configuration, its fresh seeds and the table of trials."""

from __future__ import annotations

import dataclasses
import json

import pytest

from study.results import StudyResults
from study.spec import Plugin
from tests.dashboards.pages import page
from trainer.digits import per_cent


def test_confirmed_configurations_are_judged_against_the_noise_of_the_seed(finished: StudyResults) -> None:
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
    told = " ".join(each.value for each in app.info)
    assert f"{own - 2} of them ran with one seed" in told, told
    (rows,) = [each.value["label"].to_list() for each in page(results, "overview").dataframe if "label" in each.value]
    assert f"#{results.best.number}" in rows[0] and [each for each in rows if "confirms" in each] == rows[-4:]
    assert complete[0].control == "DAPO"
    lines = [each.value.replace("\\", "") for each in page(results, "overview").markdown]
    (said,) = [each for each in lines if "against DAPO" in each]
    trial = f"Trial {complete[1].number}"
    assert said.startswith(f"{trial} against DAPO (trial 0), over 2 fresh seeds of both, paired: +0.0 points on")
    assert "sums_select/avg@8 (the same with every seed)" in said
    assert any(f"{trial} and DAPO differ in optimizer.learning_rate (" in each for each in lines)
    assert "on sums_select/avg@8" in said and "on sums_report/avg@8" in said


def test_fresh_seeds_that_agree_leave_the_error_of_a_run_and_no_error_of_zero(finished: StudyResults) -> None:
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


def test_seeds_that_a_configuration_lost_are_told_wherever_its_mean_is(finished: StudyResults) -> None:
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
def test_the_first_card_is_of_the_metric_that_the_study_maximizes(finished: StudyResults, metric: str) -> None:
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


@pytest.mark.parametrize(("metric", "column"), [("cons@k", "cons"), ("pass@k", "pass_at_k")])
def test_the_table_shows_what_the_study_maximizes(finished: StudyResults, metric: str, column: str) -> None:
    spec = finished.spec.model_copy(update={"metric": metric, "pruner": Plugin(name="none")})
    table = page(dataclasses.replace(finished, spec=spec), "overview").dataframe[0].value
    assert list(table.columns).index(column) == list(table.columns).index("accuracy") - 1
    newest = finished.trials[1].newest("sums_select")
    assert newest is not None
    row = table.loc[table["label"] == "#1"]
    assert row[column].item() == pytest.approx(100 * (newest.cons if column == "cons" else newest.pass_at_k))
    assert column not in page(finished, "overview").dataframe[0].value.columns


def test_what_a_control_has_beside_the_space_is_told_with_it(finished: StudyResults) -> None:
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
