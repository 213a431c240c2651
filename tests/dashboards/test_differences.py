from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from dashboards import differences
from study.paired import common, paired
from study.results import StudyResults


def scores(accuracy: list[float], error: list[float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {"accuracy": accuracy, "sampling_error": error}, schema_overrides={"sampling_error": pl.Float64}
    )


def test_equal_trials_seldom_look_different() -> None:
    rng = np.random.default_rng(0)
    flagged = 0
    for _ in range(400):
        spread = differences.spread(scores(list(0.5 + 0.03 * rng.normal(size=8)), [0.03] * 8))
        assert spread is not None
        flagged += spread.beyond_sampling
    # 5 % of 400 is 20 with a standard deviation of 4.4; the seed is fixed.
    assert 8 <= flagged <= 33


def test_a_collapsed_trial_makes_them_differ() -> None:
    spread = differences.spread(scores([0.8, 0.81, 0.05], [0.02] * 3))
    assert spread is not None and spread.trials == 3 and spread.beyond_sampling


def test_the_chance_of_a_difference_is_the_tables() -> None:
    """Two trials differ by 0.1 with an error of 0.05 each: chi squared is 2 with one degree of freedom."""
    spread = differences.spread(scores([0.5, 0.6], [0.05, 0.05]))
    assert spread is not None and spread.p == pytest.approx(0.1573, abs=1e-4)
    weighted = differences.spread(scores([0.5, 0.6, 0.7], [0.05, 0.05, 0.1]))  # 400, 400 and 100 of 900: 4 with two
    assert weighted is not None and weighted.p == pytest.approx(np.exp(-2))


@pytest.mark.parametrize("frame", [scores([0.8], [0.02]), scores([], []), scores([0.8, 0.7], [None, 0.02])])
def test_without_an_error_for_every_trial_nothing_is_judged(frame: pl.DataFrame) -> None:
    assert differences.spread(frame) is None


def test_a_trial_that_solved_everything_is_judged_as_if_it_had_missed_one_response() -> None:
    size = [pl.lit(8).alias("samples"), pl.lit(30).alias("problems")]
    near = differences.spread(scores([0.99, 1.0], [0.006, 0.0]).with_columns(size))
    far = differences.spread(scores([0.8, 1.0], [0.02, 0.0]).with_columns(size))
    assert near is not None and not near.beyond_sampling
    assert far is not None and far.beyond_sampling


@pytest.mark.parametrize("changed", [4, 5])
def test_problems_on_which_scores_differ_are_counted(finished: StudyResults, changed: int) -> None:
    score = finished.trials[0].evaluations[0].scores[0].model_copy(update={"solved": (1,) * 30})
    other = score.model_copy(update={"solved": (2,) * changed + (1,) * (30 - changed)})
    assert differences.telling([score, other, score]) == changed
    # Rates are compared, not counts; and the commonest number of problems counts.
    twice = score.model_copy(update={"solved": (2,) * 30, "samples": 2 * score.samples})
    more = score.model_copy(update={"solved": (3,) * 60})
    assert differences.telling([score, twice]) == 0 and differences.telling([score, other, more]) == changed


def test_each_trial_is_paired_with_the_reference_at_one_step_of_all(finished: StudyResults) -> None:
    complete = next(trial for trial in finished.trials[1:] if trial.state == "COMPLETE")
    step, scores = common(finished, "sums_select", [0, complete.number])  # type: ignore[misc]
    own, other = differences.against(scores, 0).iter_rows(named=True)
    assert step == 40 and own["difference"] is None
    gap = paired(complete.evaluations[-1].scores[0], finished.trials[0].evaluations[-1].scores[0])
    assert (other["difference"], other["error"]) == (gap.difference, gap.error)
    assert other["better"] + other["equal"] + other["worse"] == 30


def test_a_trial_of_other_problems_has_no_row(finished: StudyResults) -> None:
    score = finished.trials[0].evaluations[-1].scores[0]
    fewer = score.model_copy(update={"solved": score.solved[1:]})
    assert differences.against({0: score, 1: fewer}, 0)["trial"].to_list() == [0]


def test_the_step_of_a_comparison_is_the_last_of_the_one_that_ended_first(finished: StudyResults) -> None:
    pruned = min((trial for trial in finished.trials if trial.state == "PRUNED"), key=lambda trial: trial.pruned_at)
    found = common(finished, "sums_select", [0, 1, pruned.number])
    assert found is not None and found[0] == pruned.pruned_at
    assert found[1][pruned.number] == pruned.evaluations[-1].scores[0]


def test_the_base_model_is_no_step_to_compare_trials_at(finished: StudyResults) -> None:
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    base = dataclasses.replace(pruned, evaluations=pruned.evaluations[:1])
    results = dataclasses.replace(finished, trials=(finished.trials[0], base))
    assert base.evaluations[0].step == 0
    assert common(results, "sums_select", [0, base.number]) is None
