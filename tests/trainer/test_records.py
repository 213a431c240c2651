"""The files of a run survive torn lines and are cut back to the last saved step."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import polars
import pytest

from trainer import saturation
from trainer.errors import UserError
from trainer.records import (
    Evaluation,
    Journal,
    SetScore,
    appearing,
    read_evaluations,
    read_lines,
    run_seconds,
    usual_mode,
)


def evaluation(step: int) -> Evaluation:
    score = SetScore(
        name="select", samples=2, solved=(1, 2), accuracy=0.75, sampling_error=0.25, problem_error=0.25, cons=1.0,
        pass_at_k=1.0, mean_length=10.5, length_quantiles=(1, 2, 3, 4, 5), truncated=0.0,
    )  # fmt: skip
    return Evaluation(step=step, seconds=1.5, tokens=100, scores=(score,))


def filled(directory: Path, steps: int = 4) -> Journal:
    journal = Journal(directory, writes=True)
    for step in range(steps):
        journal.write_metrics({"step": step, "loss": 0.1 * step})
        journal.write_evaluation(evaluation(step))
    return journal


def test_evaluations_read_back_equal(tmp_path: Path) -> None:
    filled(tmp_path)
    assert read_evaluations(tmp_path) == [evaluation(step) for step in range(4)]


def test_evaluations_that_were_written_before_are_read() -> None:
    """A field that is added to `SetScore` has a default, or no study that there is can be read, resumed or exported."""
    base, last = read_evaluations(Path(__file__).parent / "data")
    assert (base.step, last.step) == (0, 24)
    assert [score.accuracy for score in last.scores] == [235 / 240, 1.0]


@pytest.mark.parametrize(
    ("line", "complaint"), [({"step": 3}, "seconds: Field required"), ({"extra": 1}, "extra: Extra inputs")]
)
def test_evaluations_of_another_version_are_one_line(tmp_path: Path, line: dict, complaint: str) -> None:
    known = evaluation(3).model_dump(mode="json")
    record = line if "step" in line else known | line
    (tmp_path / "evaluations.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match=rf"evaluations\.jsonl: not as this version writes it \({complaint}") as refused:
        read_evaluations(tmp_path)
    assert len(str(refused.value).splitlines()) == 1


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    with journal.metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in read_lines(journal.metrics)] == [0, 1, 2, 3]


def test_rewind_forgets_what_was_not_saved(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    with journal.metrics.open("a") as file:
        file.write('{"torn')
    assert [each.step for each in journal.rewind(1)] == [0, 1]
    journal.write_metrics({"step": 2})
    assert [line["step"] for line in read_lines(journal.metrics)] == [0, 1, 2]
    assert [each.step for each in read_evaluations(tmp_path)] == [0, 1]


def test_a_run_has_taken_what_its_newest_step_says(tmp_path: Path) -> None:
    journal = Journal(tmp_path, writes=True)
    assert run_seconds(tmp_path) == 0
    for step in range(3):
        journal.write_metrics({"step": step, "seconds/step": 1.0, "seconds/total": 1.5 * step})
    with journal.metrics.open("a") as file:
        file.write('{"step": 3, "seconds/to')
    assert run_seconds(tmp_path) == 3.0
    journal.rewind(1)
    assert read_lines(journal.metrics)[-1]["seconds/total"] == 1.5
    assert run_seconds(tmp_path) == 3.0  # though it dies again before a step is done
    Journal(tmp_path, writes=True).rewind(1)
    assert run_seconds(tmp_path) == 3.0
    journal.write_metrics({"step": 2, "seconds/total": 4.0})
    assert run_seconds(tmp_path) == 4.0


def test_tables_after_the_step_go_too(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    for step in (0, 2, 4):
        journal.write_outcomes(step, polars.DataFrame({"step": [step]}))
        journal.write_completions(step, polars.DataFrame({"step": [step]}))
    journal.rewind(2)
    for folder in (tmp_path / "outcomes", tmp_path / "completions"):
        assert sorted(path.name for path in folder.iterdir()) == ["step-000000.parquet", "step-000002.parquet"]
        assert polars.read_parquet(folder / "step-000002.parquet")["step"].to_list() == [2]


def test_values_that_are_not_finite_become_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path, writes=True)
    journal.write_metrics({"step": 1, "a": math.nan, "b": math.inf, "c": 1.0})
    assert read_lines(journal.metrics) == [{"step": 1, "a": None, "b": None, "c": 1.0}]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", writes=False)
    journal.write_metrics({"step": 1})
    journal.rewind(0)
    assert not (tmp_path / "run").exists()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=r"file(/run)?: cannot be made \(.*\); choose another directory$"):
            Journal(path, writes=True)


def test_an_accuracy_is_printed_with_its_k_and_errors() -> None:
    assert "avg@2 0.750 ±0.250 (sampling) ±0.250 (problems)" in str(evaluation(3))


def test_an_error_without_spread_is_a_bound() -> None:
    every = {"samples": 8, "solved": (8,) * 30, "accuracy": 1.0, "sampling_error": 0.0, "problem_error": 0.0}
    score = evaluation(0).scores[0].model_copy(update=every)
    assert "avg@8 1.000 >= 0.985, 95 % (sampling) >= 0.884, 95 % (problems)" in str(score)
    assert saturation.short(score) == "1.000 (>= 0.985, 95 %)"
    half = {"solved": (8,) * 27 + (0,) * 3, "accuracy": 0.9, "problem_error": 0.056}
    assert saturation.short(score.model_copy(update=half)) == "0.900 (0.885 to 0.914, 95 %) ±0.056"
    one = {"samples": 1, "solved": (1,) * 30, "sampling_error": None}
    assert saturation.short(score.model_copy(update=one)) == "1.000 (>= 0.884, 95 %)"
    alone = {
        "samples": 1,
        "solved": (1,) * 15 + (0,) * 15,
        "accuracy": 0.5,
        "sampling_error": None,
        "problem_error": 0.1,
    }
    assert saturation.short(score.model_copy(update=alone)) == "0.500 ±0.100 (problems)"


def test_an_error_that_cannot_be_known_is_left_out() -> None:
    score = evaluation(0).scores[0].model_copy(update={"samples": 1, "sampling_error": None})
    assert "avg@1 0.750 ±0.250 (problems)" in str(score)


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o700), (0o022, 0o755), (0o002, 0o775)])
def test_a_directory_that_appears_has_the_permissions_of_any_other(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with appearing(tmp_path / "new"):
            pass
        assert (tmp_path / "new").stat().st_mode & 0o777 == mode and usual_mode() == mode
    finally:
        os.umask(before)
