"""The pruning page: why each trial ended, what the pruner saw and what was saved."""

from __future__ import annotations

import dataclasses
import json

from dashboards import text
from study.results import StudyResults
from study.spec import Plugin
from tests.dashboards.pages import drawn, page


def test_a_study_without_a_pruner_is_said_to_have_none(finished: StudyResults) -> None:
    spec = finished.spec.model_copy(update={"pruner": Plugin(name="none")})
    complete = tuple(dataclasses.replace(each, state="COMPLETE", pruned_at=None) for each in finished.trials[:3])
    app = page(dataclasses.replace(finished, spec=spec, trials=complete), "pruning")
    assert app.info[0].value == "The study has no pruner: each trial runs to its last step."
    by_hand = dataclasses.replace(complete[2], state="PRUNED", pruned_at=5, stop_reason="stopped by hand")
    app = page(dataclasses.replace(finished, spec=spec, trials=(*complete[:2], by_hand)), "pruning")
    assert app.markdown[0].value == "The study has no pruner, 1 ended early for another reason."


def test_pruning_tells_the_pruner_from_other_reasons(finished: StudyResults) -> None:
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


def test_pruning_tells_what_its_pruner_saw(finished: StudyResults) -> None:
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


def test_what_a_race_saved_is_told_where_there_is_one(finished: StudyResults, raced: StudyResults) -> None:
    assert not any("Racing" in each.value for each in page(finished, "pruning").markdown)
    sets = [{"name": "sums_select", "path": "embedded:select", "samples": 8, "every": 5, "first_look": 2}]
    spec = raced.spec.model_copy(update={"trainer": {**raced.spec.trainer, "evaluation": {"sets": sets}}})
    (said,) = [each.value for each in page(dataclasses.replace(raced, spec=spec), "pruning").markdown
               if "Racing" in each.value]  # fmt: skip
    whole = 30 * 8 * sum(len(trial.evaluations) for trial in raced.trials)
    assert f"drew {whole - 30 * 6:,} of the {whole:,} responses" in said


def test_a_confirmation_and_a_pruned_trial_are_in_no_median(finished: StudyResults) -> None:
    """No pruner saw the one: see study.peers. The other is judged by it."""

    def median(results: StudyResults) -> list[float]:
        chart = json.loads(page(results, "pruning").get("plotly_chart")[0].proto.spec)
        (line,) = [each for each in chart["data"] if each.get("name") == "median of the complete"]
        return drawn(line["y"])

    best = finished.best
    assert best is not None
    again = [dataclasses.replace(best, number=20 + i, confirms=best.number, beside={"seed": 1 + i}) for i in range(9)]
    pruned = [dataclasses.replace(best, number=20 + i, state="PRUNED", value=None) for i in range(9)]
    for more in (again, pruned):
        assert median(dataclasses.replace(finished, trials=(*finished.trials, *more))) == median(finished)


def test_an_axis_with_fewer_responses_than_planned_does_not_say_the_planned_k(
    finished: StudyResults, raced: StudyResults
) -> None:
    for results, title in ((finished, "sums_select/avg@8"), (raced, "sums_select/avg@k")):
        charts = page(results, "pruning").get("plotly_chart")
        assert json.loads(charts[0].proto.spec)["layout"]["yaxis"]["title"]["text"] == title
