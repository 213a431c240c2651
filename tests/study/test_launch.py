"""What a launch checks before it starts is read by the same code that trains."""

from __future__ import annotations

import io
from pathlib import Path

import polars
import pytest
import yaml
from rich.console import Console

from study.check import load_spec
from study.cli import main
from study.directory import Staging
from study.display import Display
from study.launch import prepare, resume
from study.lock import driver, driver_lock
from study.storage import driving
from trainer.errors import UserError


@pytest.fixture
def verl_file(tmp_path: Path) -> Path:
    """One problem in verl's schema, its answer an expression."""
    row = {"prompt": [{"role": "user", "content": "1/2="}], "reward_model": {"ground_truth": r"\frac{1}{2}"}}
    path = tmp_path / "verl.parquet"
    polars.DataFrame([row]).write_parquet(path)
    return path


def test_training_data_may_have_every_schema_that_the_trainer_reads(make_spec, verl_file, random_model) -> None:
    prepare(
        make_spec(trainer={"model": {"path": str(random_model)}, "data": {"train": str(verl_file)}}), lambda *_: None
    )


def test_an_aime_set_without_integer_answers_is_refused_before_anything_starts(make_spec, verl_file, random_model):
    sets = [{"name": "aime_2024", "path": str(verl_file)}]
    spec = make_spec(trainer={"model": {"path": str(random_model)}, "evaluation": {"sets": sets}})
    with pytest.raises(UserError, match="an AIME answer is an integer"):
        prepare(spec, lambda *_: None)


def test_a_study_on_a_full_disk_is_not_taken_up_in_one_line(make_spec, tmp_path, full_disk) -> None:
    staging = Staging(make_spec(), tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    with full_disk(), pytest.raises(UserError, match="File too large; mend that, and go on with: fipo resume"):
        resume(directory, Display(Console(file=io.StringIO())))
    assert driver(directory) is None


def test_an_edited_study_file_is_told_key_by_key(make_spec, tmp_path) -> None:
    staging = Staging(make_spec(trials=1), tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    with driving(make_spec(), directory) as study:
        study.tell(study.ask(), 0.5)  # nothing is left to run
    path = directory / "study.yaml"
    data = yaml.safe_load(path.read_text())
    text = io.StringIO()
    resume(directory, Display(Console(file=text)))
    assert "Warning" not in text.getvalue()
    data["space"]["optimizer.learning_rate"]["high"] = 0.5
    path.write_text(yaml.safe_dump(data | {"metric": "pass@k", "concurrency": 7}))
    resume(directory, Display(Console(file=text)))
    assert "was edited since the study began: metric, space.optimizer.learning_rate.high." in text.getvalue()


def test_what_differs_from_a_study_that_goes_on_is_named(spec_file, tmp_path, monkeypatch, capfd) -> None:
    path = spec_file()
    staging = Staging(load_spec(path), tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    command = ["fipo", "launch", str(path), "--out", str(directory), "--resume"]
    says = "goes on as its study.yaml says; what is given differs in"
    with driver_lock(directory):  # so that it ends before it begins
        for more, differing in (([], None), (["--trials", "3", "--set", "seed=7"], f"{says} trials, sampler, seed\n")):
            monkeypatch.setattr("sys.argv", command + more)
            with pytest.raises(SystemExit):
                main()
            told = capfd.readouterr().err
            assert says not in told if differing is None else differing in told
