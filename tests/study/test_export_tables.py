"""Each number of the exported tables against where it comes from."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import polars
import pytest

from study.export import prepare
from study.export.provenance import provenance
from study.export.selection import split_half
from study.lock import Driver
from study.results import StudyResults
from study.tables import as_json as status_json
from tests.study.exported import PAPER, make_results

KEYS = {"mean": "mean_over_seeds", "seed_error": "seed_error"}


def as_json(results: StudyResults) -> dict:
    return json.loads(prepare(results, "json", out=Path("trials.json"))[0].text)


def as_csv(results: StudyResults) -> list[dict]:
    (one,) = prepare(results, "csv", out=Path("trials.csv"))
    return polars.read_csv(io.StringIO(one.text)).to_dicts()


@pytest.fixture
def results(tmp_path: Path) -> StudyResults:
    """Six trials with the same chance of a right response, so that the best owes its place to luck."""
    made = [make_results(tmp_path / str(number), [PAPER], seed=number) for number in range(6)]
    return replace(made[0], trials=tuple(replace(each.trials[0], number=at) for at, each in enumerate(made)))


def test_a_csv_row_has_each_sets_newest_score_and_its_step(results):
    """The trials have gone three steps beyond their last evaluation."""
    for trial in results.trials:
        (trial.directory / "metrics.jsonl").write_text('{"step": 363}\n')
    for trial, row in zip(results.trials, as_csv(results), strict=True):
        assert (row["steps_done"], row["aime_2024.step"]) == (363, 360)
        for score in trial.evaluations[-1].scores:
            for field in ("samples", "accuracy", "sampling_error", "problem_error", "cons", "pass_at_k", "mean_length"):
                assert row[f"{score.name}.{field}"] == pytest.approx(getattr(score, field)), field


def test_a_trial_that_no_driver_runs_is_stopped_in_both_tables_and_in_the_head_of_its_config(results):
    running = replace(results.trials[0], state="RUNNING", ended=None, value=None)
    begun = replace(results, trials=(*results.trials[1:], running))
    for driver, state in ((None, "STOPPED"), (Driver("host", 1), "RUNNING")):
        study = replace(begun, driver=driver)
        for told in (as_csv(study), as_json(study)["trials"]):
            assert [each["state"] for each in told] == ["COMPLETE"] * 5 + [state]
            assert [each["value"] for each in told] == [each.value for each in begun.trials]
        assert f"state {state} at step" in "\n".join(provenance(study, study.trials[-1]))


def test_the_accuracy_without_the_luck_of_the_choice_is_the_split_halves(results):
    estimate = split_half(results)
    assert estimate.corrected < estimate.selected
    told = as_json(results)["selection_corrected"]
    assert (told["value"], told["selected"]) == (estimate.corrected, estimate.selected)
    for row in as_csv(results):
        assert row["selection_corrected"] == pytest.approx(estimate.corrected)


def test_what_a_control_has_beside_the_space_stands_in_its_row_and_below_the_table_of_the_report(results):
    beside = {"fipo.clip_high": 0.2, "fipo.aggregation": "seq-mean-token-mean"}
    grpo = replace(results.trials[0], control="GRPO", beside=beside)
    study = replace(results, trials=(grpo, *results.trials[1:]))
    assert [each["beside"] for each in as_json(study)["trials"]] == [beside, *[{}] * 5]
    first, *others = as_csv(study)
    assert (first["beside.fipo.clip_high"], first["beside.fipo.aggregation"]) == (0.2, "seq-mean-token-mean")
    assert {each["beside.fipo.clip_high"] for each in others} == {None}
    (report,) = prepare(study, "report", out=Path("report.html"))
    said = "trial 0 (GRPO), not in space: fipo.clip_high 0.2, fipo.aggregation seq-mean-token-mean."
    assert report.text.count(said) == 1


def test_the_mean_over_seeds_is_of_those_that_ended_and_the_lost_are_beside_it(results):
    """Of three fresh seeds one has failed: 0.65 is the mean of 0.6 and 0.7, the error half their difference."""
    confirming = [
        replace(trial, confirms=0, beside={"seed": seed}, value=value, state="COMPLETE" if value else "FAIL")
        for seed, (trial, value) in enumerate(zip(results.trials[1:4], (0.6, 0.7, None), strict=True), start=1)
    ]
    seeds = replace(results, trials=(results.trials[0], *confirming))
    for row in (as_json(seeds)["trials"][0], as_csv(seeds)[0]):
        assert (row["fresh_seeds"], row["seeds_lost"]) == (2, "failed")
        assert (row["mean_over_seeds"], row["seed_error"]) == (pytest.approx(0.65), pytest.approx(0.05))
    first, second = (trial.newest("aime_2025").accuracy for trial in confirming[:2])
    again = {"mean": pytest.approx((first + second) / 2), "seed_error": pytest.approx(abs(first - second) / 2)}
    assert first != second
    assert as_json(seeds)["trials"][0]["only_reported"] == {"aime_2025": {"seeds": 2} | again}
    assert json.loads(status_json(seeds))["confirmed"][0]["only_reported"] == {"aime_2025": {"seeds": 2} | again}
    assert {each: as_csv(seeds)[0][f"aime_2025.{name}"] for each, name in KEYS.items()} == again
    assert as_json(seeds)["trials"][1]["only_reported"] == {}
