from __future__ import annotations

import dataclasses

import polars as pl
import pytest

from dashboards import frames, scores
from study.against import mean_lengths, seed_means_reported
from study.results import StudyResults


def at(results: StudyResults, step: int, **options: str) -> pl.DataFrame:
    return scores.at_step(
        frames.trials(results), frames.evaluations(results), set_name="sums_select", step=step, **options
    )


def test_a_pruned_trial_counts_as_long_as_it_ran(finished: StudyResults) -> None:
    counts = scores.steps(frames.evaluations(finished), "sums_select")
    pruned = [trial for trial in finished.trials if trial.state == "PRUNED"]
    assert pruned and list(counts) == sorted(counts) and 0 not in counts
    for step, count in counts.items():
        there = set(at(finished, step)["trial"])
        assert len(there) == count
        assert {trial.number for trial in pruned if (trial.pruned_at or 0) >= step} <= there
        assert not {trial.number for trial in pruned if (trial.pruned_at or 0) < step} & there


def test_the_score_is_that_of_the_step_with_its_sampling_error_and_the_best_comes_first(finished: StudyResults) -> None:
    known = at(finished, 10)
    assert known["score"].is_sorted(descending=True)
    for row in known.iter_rows(named=True):
        score = next(each for each in finished.trials[row["trial"]].evaluations if each.step == 10).scores[0]
        assert (row["score"], row["error"]) == (score.accuracy, score.sampling_error)


def test_equal_scores_stand_in_the_order_of_their_trials(finished: StudyResults) -> None:
    tied = frames.evaluations(finished).with_columns(accuracy=pl.lit(0.5))
    known = scores.at_step(frames.trials(finished), tied, set_name="sums_select", step=10)
    assert known.height > 2 and known["trial"].is_sorted()
    assert scores.by_configuration(known)["trial"].is_sorted()


@pytest.mark.parametrize(("metric", "field"), [("cons@k", "cons"), ("pass@k", "pass_at_k")])
def test_another_metric_has_its_own_score_and_no_error(finished: StudyResults, metric: str, field: str) -> None:
    known = at(finished, 10, metric=metric)
    row = known.row(0, named=True)
    score = next(each for each in finished.trials[row["trial"]].evaluations if each.step == 10).scores[0]
    assert row["score"] == getattr(score, field)
    assert known["error"].null_count() == known.height


def test_a_race_that_ended_early_is_judged_by_its_own_samples_and_not_mixed_with_another_k(
    raced: StudyResults,
) -> None:
    accuracy = at(raced, 10)
    row = accuracy.row(by_predicate=pl.col("trial") == 1, named=True)
    others = accuracy.filter(pl.col("trial") != 1)
    assert (row["samples"], set(others["samples"])) == (2, {8})
    assert row["error"] > 1.5 * others["error"].max()
    assert set(at(raced, 10, metric="pass@k")["trial"]) == set(others["trial"])


@pytest.mark.parametrize(
    ("counts", "step"),
    [({5: 14, 10: 9, 40: 8}, 40), ({5: 14, 10: 8, 40: 5}, 10), ({5: 7, 10: 3, 15: 1}, 10), ({5: 1, 9: 1}, 9), ({}, 0)],
)
def test_the_usual_step_is_the_last_with_enough_trials_or_with_two(counts: dict[int, int], step: int) -> None:
    assert scores.usual_step(counts, enough=8) == step


def test_a_confirmed_configuration_counts_once_by_the_mean_of_its_fresh_seeds(finished: StudyResults) -> None:
    known = at(finished, 5).head(4)
    first, one, two, other = known["trial"]
    again = pl.when(pl.col("trial").is_in([one, two])).then(first).cast(pl.Int64).alias("confirms")
    found = scores.by_configuration(known.with_columns(again))
    assert set(found["trial"]) == {first, other} and found.columns == known.columns
    row = found.row(by_predicate=pl.col("trial") == first, named=True)
    fresh = known.filter(pl.col("trial").is_in([one, two]))
    assert row["score"] == pytest.approx(fresh["score"].mean())
    assert row["error"] == pytest.approx((fresh["error"] ** 2).sum() ** 0.5 / 2)
    assert scores.by_configuration(known).equals(known)


def test_what_confirmed_a_trial_counts_for_the_control_that_repeats_it(finished: StudyResults) -> None:
    """As after `fipo enqueue` of the DAPO that a search has drawn and confirmed."""
    sampled, other = [trial for trial in finished.trials if trial.state == "COMPLETE" and not trial.control][:2]
    again = [
        dataclasses.replace(other, number=20 + seed, confirms=sampled.number, beside={"seed": seed}) for seed in (1, 2)
    ]
    control = dataclasses.replace(sampled, number=30, control="DAPO late")
    before = dataclasses.replace(finished, trials=(*finished.trials, *again))
    after = dataclasses.replace(before, trials=(*before.trials, control))
    assert after.repeats[sampled.number] == 30
    for told in (mean_lengths, seed_means_reported):
        assert told(after)[30] == told(before)[sampled.number]
    step = other.evaluations[-1].step
    was, now = (scores.by_configuration(at(results, step)) for results in (before, after))
    for number, table in ((sampled.number, was), (30, now)):
        row = table.row(by_predicate=pl.col("trial") == number, named=True)
        assert row["score"] == pytest.approx(other.evaluations[-1].scores[0].accuracy)
    assert sampled.number not in now["trial"]
    table = frames.trials(after)
    assert table.filter(pl.col("of_control") == 30)["trial"].to_list() == [21, 22, 30]
