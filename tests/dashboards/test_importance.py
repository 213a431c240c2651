from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from dashboards import frames, importance, scores
from study.results import StudyResults


def many(results: StudyResults) -> StudyResults:
    """Sixty trials: PED-ANOVA looks at the best tenth only, which of a dozen is one and shows nothing."""
    draw, trials = np.random.default_rng(1), []
    for number in range(60):
        params = {key: float(draw.uniform(space.low, space.high)) for key, space in results.spec.space.items()}  # type: ignore[union-attr]
        trials.append(dataclasses.replace(results.trials[0], number=number, params=params))
    return dataclasses.replace(results, trials=tuple(trials))


def steered_by_rate(results: StudyResults) -> pl.DataFrame:
    """Every trial's score is a function of the learning rate alone."""
    rows = [(trial.number, trial.params["optimizer.learning_rate"] * 100) for trial in results.trials]
    return pl.DataFrame(rows, schema=["trial", "score"], orient="row")


def test_the_parameter_that_decides_is_the_most_important(finished: StudyResults) -> None:
    results = many(finished)
    frame = importance.importance(results, steered_by_rate(results))
    for (_,), own in frame.group_by("method"):
        assert own.sort("importance")["parameter"][-1] == "optimizer.learning_rate"
        assert own["importance"].sum() == pytest.approx(1)
        assert set(own["parameter"]) == {*results.spec.space, importance.CHANCE}
    assert set(frame["method"]) == {"fANOVA", "PED-ANOVA"}


def test_real_scores_of_a_step_are_taken(finished: StudyResults) -> None:
    known = scores.at_step(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", step=5)
    assert not importance.importance(finished, known).is_empty()


def test_too_few_trials_or_one_score_give_no_importance(finished: StudyResults) -> None:
    known = steered_by_rate(finished)
    assert importance.importance(finished, known.head(importance.FEWEST - 1)).is_empty()
    assert importance.importance(finished, known.with_columns(pl.lit(0.5).alias("score"))).is_empty()


@pytest.mark.parametrize("params", [{"fipo.half_life": 32.0}, "beyond"])
def test_a_control_that_lacks_a_parameter_or_lies_outside_its_range_is_left_out(
    finished: StudyResults, params: dict[str, float] | str
) -> None:
    first = finished.trials[0]
    changed = {**first.params, "optimizer.learning_rate": 0.9} if params == "beyond" else params
    results = dataclasses.replace(finished, trials=(dataclasses.replace(first, params=changed), *finished.trials[1:]))
    usable = importance.usable(results, steered_by_rate(finished))
    assert usable["trial"].to_list() == [trial.number for trial in finished.trials[1:]]
