from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from dashboards import frames
from dashboards.source import Study
from dashboards.views.export import on_page, prepared, preview
from study.export import TARGETS, TRAINERS
from study.results import StudyResults
from trainer.config import TrainerConfig
from trainer.errors import UserError


@pytest.fixture
def study(finished: StudyResults) -> Study:
    return Study(finished, frames.trials(finished), frames.evaluations(finished))


def test_the_yaml_is_the_trials_own_configuration(study: Study) -> None:
    export = prepared(study, "yaml", 3)
    assert export.path.name == "synthetic-trial-0003.yaml"
    config = TrainerConfig.model_validate(yaml.safe_load(export.text or ""))
    assert config.fipo.epsilon_f_high == study.results.trials[3].params["fipo.epsilon_f_high"]


@pytest.mark.parametrize("target", TRAINERS)
def test_another_trainer_refuses_until_the_nearest_is_asked_for(study: Study, target: str) -> None:
    scaled = {"preset": "qwen2.5_7b_math"}
    export = prepared(study, target, 3, approximate=True, **scaled)
    assert export.text and export.path.name.endswith(TARGETS[target].suffix)
    refusals = [({}, "“Scale”")] + [(scaled, "“Take the nearest”")] * bool(export.gaps)
    for options, switch in refusals:
        with pytest.raises(UserError, match=target) as refused:
            prepared(study, target, 3, **options)
        said = on_page(str(refused.value))
        assert switch in said and "--preset" not in said and "--approximate" not in said


@pytest.mark.parametrize("target", ["json", "csv"])
def test_the_tables_have_every_trial(study: Study, target: str) -> None:
    assert prepared(study, target, None).path.name == "trials" + TARGETS[target].suffix


def test_nothing_is_written_where_the_dashboard_runs(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.yaml").write_text("mine")  # which `fipo export` would refuse to touch
    prepared(study, "yaml", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["best.yaml"]


def test_a_trial_that_does_not_exist_is_refused(study: Study) -> None:
    with pytest.raises(UserError, match="999"):
        prepared(dataclasses.replace(study), "yaml", 999)


def test_a_preview_is_the_beginning_and_says_when_that_is_all() -> None:
    assert preview("a\nb\n") == ("a\nb", True)
    shown, whole = preview("line\n" * 1000)
    assert shown.count("\n") == 199 and not whole
    shown, whole = preview("x" * 100_000)
    assert len(shown) == 40_000 and not whole
