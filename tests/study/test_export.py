"""The exported YAML is the trial's own config, with its provenance above it."""

from __future__ import annotations

import pytest
import yaml

from study.export import export_best
from study.results import read_study
from trainer.config import TrainerConfig
from trainer.errors import UserError, read_yaml, validate


@pytest.fixture
def results(make_bridge, run_trial):
    bridge = make_bridge(pruner={"name": "none"})
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.7])
    run_trial(bridge, [0.2, 0.9])  # ended early: FAIL
    return read_study(bridge.directory)


def test_the_best_trials_config_is_exported_and_valid(results, tmp_path):
    trial = export_best(results, number=None, out=tmp_path / "best.yaml")
    assert trial.number == 1
    exported = validate(TrainerConfig, read_yaml(tmp_path / "best.yaml"), source="best.yaml")
    own = TrainerConfig.model_validate(yaml.safe_load((trial.directory / "config.yaml").read_text()))
    assert exported == own
    assert exported.optimizer.learning_rate == trial.params["optimizer.learning_rate"]


def test_the_header_says_where_it_comes_from_and_how_sure_it_is(results, tmp_path):
    export_best(results, number=None, out=tmp_path / "best.yaml")
    header = [line for line in (tmp_path / "best.yaml").read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    for words in (
        "Study unit, trial 1",
        "chosen among 3 trials by sums_select/avg@8",
        "sums_select (selected on) at step 20: avg@8 0.7000 +- 0.0110 (sampling) +- 0.0220 (across 10 problems)",
        "sums_report (only reported)",
    ):
        assert words in text


def test_a_named_trial_is_exported_whatever_its_state(results, tmp_path):
    trial = export_best(results, number=2, out=tmp_path / "x.yaml")
    assert (trial.number, trial.state) == (2, "FAIL")
    assert "state FAIL" in (tmp_path / "x.yaml").read_text()


def test_nothing_is_overwritten_and_nothing_half_written(results, tmp_path):
    (tmp_path / "best.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"best\.yaml exists"):
        export_best(results, number=None, out=tmp_path / "best.yaml")
    assert (tmp_path / "best.yaml").read_text() == "mine"
    with pytest.raises(UserError, match="does not exist"):
        export_best(results, number=None, out=tmp_path / "nowhere" / "best.yaml")
    assert not (tmp_path / "nowhere").exists()


def test_a_trial_that_is_not_there_is_a_user_error(results, tmp_path):
    with pytest.raises(UserError, match=r"--trial 7: .* allowed: 0 to 2"):
        export_best(results, number=7, out=tmp_path / "x.yaml")


def test_a_study_without_a_complete_trial_says_so(make_bridge, run_trial, tmp_path):
    bridge = make_bridge()
    run_trial(bridge, [0.2, 0.3])
    with pytest.raises(UserError, match=r"no trial is COMPLETE \(FAIL\)"):
        export_best(read_study(bridge.directory), number=None, out=tmp_path / "x.yaml")
    assert not (tmp_path / "x.yaml").exists()
