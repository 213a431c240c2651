from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from dashboards import optuna_study
from trainer.errors import UserError


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'other.db'}"


@pytest.fixture
def other(url: str) -> optuna.Study:
    """Someone's own Optuna study, minimized, with a complete and a pruned trial."""
    study = optuna.create_study(study_name="other", storage=url, direction="minimize")
    for x in (1.0, 2.0):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 3)})
        trial.report(x, 1)
        study.tell(trial, x if x == 1 else None, state=None if x == 1 else optuna.trial.TrialState.PRUNED)
    return study


def test_any_study_is_read_with_its_values(other: optuna.Study, url: str) -> None:
    read = optuna_study.read(optuna_study.load(url, "other"), url)
    assert [each.name for each in read.directions] == ["MINIMIZE"]
    assert [each.state.name for each in read.trials] == ["COMPLETE", "PRUNED"]
    assert [each.intermediate_values for each in read.trials] == [{1: 1.0}, {1: 2.0}]
    assert read.in_memory().best_value == 1.0


def test_a_running_trial_survives_the_copy_for_plots(other: optuna.Study, url: str) -> None:
    other.ask()
    read = optuna_study.read(optuna_study.load(url, "other"), url)
    assert [each.state.name for each in read.in_memory().trials] == ["COMPLETE", "PRUNED", "RUNNING"]


def test_a_second_reading_sees_what_was_told_since(other: optuna.Study, url: str) -> None:
    loaded = optuna_study.load(url, "other")
    trial = other.ask()
    before = optuna_study.read(loaded, url)
    other.tell(trial, 0.5)
    after = optuna_study.read(loaded, url)
    assert (before.trials[-1].state.name, after.trials[-1].state.name) == ("RUNNING", "COMPLETE")
    assert before.trials[:2] == after.trials[:2]


def test_reading_changes_nothing_in_the_storage(other: optuna.Study, url: str, tmp_path: Path) -> None:
    before = (tmp_path / "other.db").read_bytes()
    assert optuna_study.names(url) == ["other"]
    optuna_study.read(optuna_study.load(url, "other"), url)
    assert (tmp_path / "other.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


def test_a_file_that_is_no_storage_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_bytes(b"")
    with pytest.raises(UserError, match=r"notes\.db.*cannot be read"):
        optuna_study.names(f"sqlite:///{tmp_path / 'notes.db'}")
    assert (tmp_path / "notes.db").read_bytes() == b""


def test_a_study_that_the_storage_lacks_is_refused_with_those_it_has(other: optuna.Study, url: str) -> None:
    with pytest.raises(UserError, match="has no study nosuch; it has other"):
        optuna_study.load(url, "nosuch")


@pytest.mark.parametrize("scheme", ["nosuch", "mysql+nosuch", "postgresql", "postgresql+psycopg"])
def test_an_error_is_one_line_without_the_password(scheme: str) -> None:
    bad = f"{scheme}://user:secret@127.0.0.1:1/x"  # nothing listens there, where a driver is installed at all
    with pytest.raises(UserError) as error:
        optuna_study.names(bad)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)
    assert "secret" not in optuna_study.listed([bad]) and optuna_study.listed([bad, "studies"]).endswith(", studies")
