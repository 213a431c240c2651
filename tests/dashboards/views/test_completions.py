"""The completions page: which are shown, and that no other file is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from study.results import StudyResults
from tests.dashboards import synthetic
from tests.dashboards.pages import page


def test_the_best_trial_at_its_last_step_is_what_completions_open_with(finished: StudyResults) -> None:
    app = page(finished, "completions")
    assert finished.best is not None
    chosen = {box.label: box.value for box in app.selectbox}
    assert (chosen["Trial"], chosen["Training step"]) == (finished.best.number, 40)
    assert chosen["Response"] == "all that were kept"
    assert sum("Response 1, correct" in each.value or "Response 2, wrong" in each.value for each in app.markdown) == 2


def test_one_response_may_be_chosen_and_a_step_that_another_trial_lacks_gives_way(finished: StudyResults) -> None:
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
def test_an_address_that_names_no_trial_of_the_study_opens_the_usual_one(finished: StudyResults, query: str) -> None:
    app = page(finished, "completions", trial=query, step=query, problem=query, response=query)
    assert finished.best is not None
    assert app.selectbox[0].value == finished.best.number


def test_completions_outside_the_study_are_not_read(finished: StudyResults, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "completions"
    outside.mkdir(parents=True)
    synthetic.completions(5, text="secret").write_parquet(outside / "step-000005.parquet")
    link = tmp_path / "study" / "trials" / "0000"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside.parent)
    trial = dataclasses.replace(finished.trials[0], directory=link)
    app = page(dataclasses.replace(finished, directory=tmp_path / "study", trials=(trial,)), "completions")
    assert "No trial has kept a completion" in app.info[0].value


def test_a_long_response_is_shown_in_parts(finished: StudyResults, tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "0000" / "completions"
    folder.mkdir(parents=True)
    synthetic.completions(5, text="x" * 9000).write_parquet(folder / "step-000005.parquet")
    trial = dataclasses.replace(finished.trials[0], directory=folder.parent)
    app = page(dataclasses.replace(finished, directory=tmp_path, trials=(trial,)), "completions")
    parts = next(box for box in app.selectbox if box.label == "Tokens")
    assert list(parts.options) == ["1 to 4,000 of 9,000", "4,001 to 8,000 of 9,000", "8,001 to 9,000 of 9,000"]
    assert next(box for box in app.selectbox if box.label == "Response").value.startswith("1: correct")
