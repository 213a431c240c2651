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
        assert own.filter(pl.col("parameter") != importance.CHANCE)["importance"].sum() == pytest.approx(1)
        assert set(own["parameter"]) == {*results.spec.space, importance.CHANCE}
    assert set(frame["method"]) == {"fANOVA", "PED-ANOVA"}
    assert importance.beyond_chance(frame)
    assert importance.ranked(list(results.spec.space), frame)[0] == "optimizer.learning_rate"


def test_what_sets_the_best_apart_is_asked_of_the_best(finished: StudyResults) -> None:
    """A high rate ruins a trial; among those that it leaves alone the upper bound decides."""
    results = many(finished)
    space = results.spec.space["optimizer.learning_rate"]
    rows = []
    for trial in results.trials:
        ruined = trial.params["optimizer.learning_rate"] > space.low + 0.8 * (space.high - space.low)  # type: ignore[union-attr]
        rows.append((trial.number, 0.0 if ruined else 0.5 + trial.params["fipo.epsilon_f_high"]))
    frame = importance.importance(results, pl.DataFrame(rows, schema=["trial", "score"], orient="row"))
    best = frame.filter(pl.col("method") == "PED-ANOVA", pl.col("parameter") != importance.CHANCE).sort("importance")
    assert best["parameter"][-1] == "fipo.epsilon_f_high"


def test_where_nothing_matters_hardly_a_study_shows_that_something_does(finished: StudyResults) -> None:
    """Of random scores one study in twenty. One made-up parameter beside k real ones is the least of them in most."""
    results, draw = many(finished), np.random.default_rng(5)
    chance = [
        importance.importance(results, steered_by_rate(results).sample(20, seed=study).with_columns(
            score=pl.Series(draw.normal(size=20))))
        for study in range(12)
    ]  # fmt: skip
    assert sum(map(importance.beyond_chance, chance)) <= 2


def test_one_parameter_has_no_share(finished: StudyResults) -> None:
    key = "optimizer.learning_rate"
    spec = finished.spec.model_copy(update={"space": {key: finished.spec.space[key]}})
    alone = dataclasses.replace(many(finished), spec=spec)
    assert importance.importance(alone, steered_by_rate(alone)).is_empty()


def test_real_scores_of_a_step_are_taken(finished: StudyResults) -> None:
    known = scores.at_step(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", step=5)
    assert not importance.importance(finished, known).is_empty()


def test_of_many_trials_a_random_part_counts_and_always_the_same(finished: StudyResults) -> None:
    """The first hundred are alike: taken alone they would tell nothing."""
    trials = [dataclasses.replace(each, number=number + 60 * again) for again in range(3)
              for number, each in enumerate(many(finished).trials)]  # fmt: skip
    results = dataclasses.replace(finished, trials=tuple(trials))
    late = steered_by_rate(results).with_columns(
        score=pl.when(pl.col("trial") >= importance.MOST).then("score").otherwise(0.5)
    )
    first = importance.importance(results, late)
    assert not first.is_empty()
    assert first.equals(importance.importance(results, late))


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


def shares(**mean: float) -> pl.DataFrame:
    """An importance of two methods around the given means, keyed by the last part of a parameter's key."""
    full = {"half_life": "fipo.half_life", "gamma": "fipo.gamma", "rate": "optimizer.learning_rate",
            "high": "fipo.epsilon_f_high", "chance": importance.CHANCE}  # fmt: skip
    rows = [
        (full[key], method, value + shift) for key, value in mean.items() for method, shift in (("a", 0.1), ("b", -0.1))
    ]
    return pl.DataFrame(rows, schema=importance.SCHEMA, orient="row")


KEYS = ["fipo.half_life", "fipo.gamma", "fipo.epsilon_f_high", "optimizer.learning_rate"]


def test_keys_that_explain_more_than_chance_come_first_and_the_rest_keep_their_order() -> None:
    found = importance.ranked(KEYS, shares(rate=0.5, high=0.3, half_life=0.1, chance=0.2))
    assert found == ["optimizer.learning_rate", "fipo.epsilon_f_high", "fipo.half_life", "fipo.gamma"]


@pytest.mark.parametrize("known", [{}, {"rate": 0.2, "high": 0.1, "half_life": 0.05, "chance": 0.3}])
def test_without_importance_beyond_chance_the_usual_order_stays(known: dict[str, float]) -> None:
    assert importance.ranked(KEYS, shares(**known)) == KEYS


@pytest.mark.parametrize("sampled", ["gamma", "half_life"])
def test_where_gamma_is_what_matters_its_half_life_comes_first(sampled: str) -> None:
    found = importance.ranked(KEYS[2:] + KEYS[:2], shares(**{sampled: 0.6, "rate": 0.3, "chance": 0.1}))
    assert found[:3] == ["fipo.half_life", "fipo.gamma", "optimizer.learning_rate"]


@pytest.mark.parametrize(("rate", "beyond"), [(0.3, True), (0.2, False)])
def test_a_parameter_is_beyond_chance_by_the_mean_of_the_methods(rate: float, beyond: bool) -> None:
    assert importance.beyond_chance(shares(rate=rate, high=0.15, chance=0.25)) == beyond
