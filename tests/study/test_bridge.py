"""What the bridge tells Optuna, read back by plain Optuna from the SQLite file."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from study.assignment import Assignment, Report
from study.check import checked_control
from study.results import read_study
from study.tables import setting
from trainer.config import TrainerConfig
from trainer.config_file import read_config
from trainer.errors import UserError

MEDIAN = {"name": "median", "n_startup_trials": 2}


def written_config(assignment: Assignment) -> TrainerConfig:
    return read_config(TrainerConfig, assignment.directory / "config.yaml")


def reopened(directory: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="unit", storage=f"sqlite:///{directory / 'optuna.db'}").trials


def run(bridge, values: list[float], every: int = 5) -> int:
    """A trial that reports `values` at steps 0, every, 2 every, ... until it is stopped."""
    assignment = bridge.ask()
    for index, value in enumerate(values):
        if bridge.report(assignment.number, Report(index * every, value)):
            break
    bridge.finish(assignment.number)
    return assignment.number


def test_a_finished_trial_is_complete_with_its_last_value_and_all_steps(make_bridge):
    bridge = make_bridge()
    run(bridge, [0.1, 0.5, 0.9, 0.4, 0.3])
    (trial,) = reopened(bridge.directory)
    assert trial.state is TrialState.COMPLETE
    assert trial.value == 0.3
    assert trial.intermediate_values == {0: 0.1, 5: 0.5, 10: 0.9, 15: 0.4, 20: 0.3}


def test_the_written_config_is_complete_and_holds_the_sampled_value(make_bridge):
    bridge = make_bridge()
    assignment = bridge.ask()
    written = yaml.safe_load((assignment.directory / "config.yaml").read_text())
    (trial,) = reopened(bridge.directory)
    assert trial.params == assignment.params
    assert TrainerConfig.model_validate(written) == bridge.spec.config(trial.params)
    assert written["optimizer"]["learning_rate"] == trial.params["optimizer.learning_rate"]
    assert set(written) == set(TrainerConfig.model_fields)


def test_a_pruned_trial_loses_its_checkpoints_and_any_other_all_but_the_newest(make_bridge):
    bridge = make_bridge(pruner=MEDIAN)
    for values in ([0.5] * 5, [0.5] * 5, [0.1] * 5, [0.5] * 2):  # the last one fails
        assignment = bridge.ask()
        for step in (5, 10):
            (assignment.directory / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
        for index, value in enumerate(values):
            if bridge.report(assignment.number, Report(index * 5, value)):
                break
        bridge.finish(assignment.number)
    kept = [(bridge.directory / f"trials/{number:04d}/checkpoints").glob("*") for number in range(4)]
    newest = ["step-000010"]
    assert [[each.name for each in paths] for paths in kept] == [newest, newest, [], newest]
    assert (bridge.directory / "trials/0002/config.yaml").exists()


def test_the_median_pruner_stops_the_trial_below_the_median_and_no_other(make_bridge):
    bridge = make_bridge(pruner=MEDIAN)
    good = [0.2, 0.3, 0.4, 0.5, 0.6]
    run(bridge, good)
    run(bridge, [0.2, 0.4, 0.5, 0.6, 0.7])
    bad = run(bridge, [0.2, 0.2, 0.1, 0.1, 0.1])
    kept = run(bridge, [0.2, 0.5, 0.6, 0.7, 0.8])
    trials = reopened(bridge.directory)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert trials[bad].user_attrs["pruned_at"] == 5
    assert trials[bad].intermediate_values == {0: 0.2, 5: 0.2}
    assert "pruned_at" not in trials[kept].user_attrs


def test_a_trial_is_never_pruned_at_its_last_step(make_bridge):
    bridge = make_bridge(pruner=MEDIAN)
    for _ in range(2):
        run(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    last = run(bridge, [0.9, 0.9, 0.9, 0.9, 0.0])
    worse = run(bridge, [0.2, 0.3, 0.4, 0.5, 0.0])
    trials = reopened(bridge.directory)
    assert trials[last].state is TrialState.COMPLETE
    assert trials[worse].state is TrialState.COMPLETE
    assert trials[worse].value == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_fails_the_trial_with_its_step(make_bridge, value):
    bridge = make_bridge()
    run(bridge, [0.2, 0.3, value, 0.4, 0.5])
    (trial,) = reopened(bridge.directory)
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["fail_reason"] == f"avg@k is {value} at step 10"
    assert trial.intermediate_values == {0: 0.2, 5: 0.3}


def test_a_trial_that_ends_early_without_a_reason_fails(make_bridge):
    bridge = make_bridge()
    run(bridge, [0.2, 0.3])
    (trial,) = reopened(bridge.directory)
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["fail_reason"] == "ended after step 5 of 20"


def test_a_trial_ends_once(make_bridge):
    """Tune tells the end of a trial that the scheduler has settled already."""
    bridge = make_bridge()
    number = run(bridge, [0.1, 0.5, 0.9, 0.4, 0.3])
    bridge.finish(number)
    assert [trial.state for trial in reopened(bridge.directory)] == [TrialState.COMPLETE]


def test_failed_trials_count_toward_the_cap(make_bridge):
    bridge = make_bridge(trials=3)
    for _ in range(3):
        assignment = bridge.ask()
        bridge.fail(assignment.number, "boom")
        bridge.finish(assignment.number)
    assert bridge.ask() is None
    assert [trial.state.name for trial in reopened(bridge.directory)] == ["FAIL"] * 3


def test_the_first_reason_of_a_failure_stays_and_is_one_line(make_bridge):
    bridge = make_bridge()
    number = bridge.ask().number
    bridge.fail(number, "loss is not\nfinite")
    bridge.fail(number, "the process ended")
    bridge.finish(number)
    (trial,) = reopened(bridge.directory)
    assert trial.user_attrs["fail_reason"] == "loss is not finite"


def test_a_repeated_step_is_ignored(make_bridge):
    bridge = make_bridge()
    number = bridge.ask().number
    bridge.report(number, Report(5, 0.5))
    bridge.report(number, Report(5, 0.1))
    bridge.report(number, Report(0, 0.1))
    assert reopened(bridge.directory)[0].intermediate_values == {5: 0.5}


def test_controls_come_first_with_their_label_and_their_values(make_bridge):
    bridge = make_bridge(
        enqueue=[{"label": "DAPO", "values": {"fipo.epsilon_f_low": 0, "fipo.epsilon_f_high": 0}}],
        sampler={"name": "random"},
    )
    assert [trial.state.name for trial in reopened(bridge.directory)] == ["WAITING"]
    config = written_config(bridge.ask())
    assert (config.fipo.epsilon_f_low, config.fipo.epsilon_f_high) == (0, 0)
    (trial,) = reopened(bridge.directory)
    assert trial.user_attrs["control"] == "DAPO"
    assert written_config(bridge.ask()).fipo.epsilon_f_high == TrainerConfig().fipo.epsilon_f_high


def test_controls_and_the_first_trial_are_each_sampled_for_themselves(make_bridge):
    controls = [{"label": label, "values": {"fipo.half_life": 32}} for label in ("a", "b")]
    bridge = make_bridge(enqueue=controls)
    assert len({bridge.ask().params["optimizer.learning_rate"] for _ in range(3)}) == 3


def test_a_trial_that_is_stopped_by_hand_is_told_so_at_whatever_it_reports(make_bridge):
    bridge = make_bridge(pruner={"name": "none"})
    number = bridge.ask().number
    assert not bridge.report(number, Report(5, 0.5))
    bridge.stop(number)
    assert bridge.report(number, Report(10, 0.5))
    bridge.finish(number)
    (trial,) = reopened(bridge.directory)
    assert (trial.state, trial.user_attrs["pruned_at"]) == (TrialState.PRUNED, 5)


def test_the_grid_is_covered_once_beside_its_controls(make_bridge):
    bridge = make_bridge(
        trials=7,
        sampler={"name": "grid"},
        pruner={"name": "none"},
        space={
            "fipo.half_life": {"type": "grid", "values": [8, 32, 128]},
            "fipo.filtering": {"type": "grid", "values": [True, False]},
        },
        enqueue=[{"label": "DAPO", "values": {"fipo.half_life": 32, "fipo.filtering": True, "fipo.epsilon_f_low": 0}}],
    )
    for _ in range(7):
        run(bridge, [0.1, 0.2, 0.3, 0.4, 0.5])
    points = [tuple(trial.params.values()) for trial in reopened(bridge.directory)[1:]]
    assert sorted(points) == sorted((tau, keep) for tau in (8, 32, 128) for keep in (True, False))


def test_the_same_seed_samples_the_same_points(make_spec, tmp_path):
    from study.bridge import Bridge
    from study.storage import create_study, driving

    spec = make_spec(seed=3)
    seen = []
    for name in ("a", "b"):
        directory = tmp_path / name
        (directory / "trials").mkdir(parents=True)
        create_study(spec, directory)
        with driving(spec, directory) as study:
            bridge = Bridge(study, spec, directory)
            seen.append([bridge.ask().params["optimizer.learning_rate"] for _ in range(3)])
    assert seen[0] == seen[1]


def test_a_control_beside_the_grid_is_trained_confirmed_and_never_sampled(make_bridge, run_trial):
    """DAPO beside a grid of epsilon_f, of which a row of its own would train it once for each half-life."""
    dapo = {"fipo.half_life": 16, "fipo.epsilon_f_high": 0}
    space = {
        "fipo.half_life": {"type": "grid", "values": [8, 32]},
        "fipo.epsilon_f_high": {"type": "choice", "values": [0.1, 0.4]},
    }
    bridge = make_bridge(
        trials=5, space=space, enqueue=[{"label": "DAPO", "values": dapo | {"fipo.epsilon_f_low": 0}}],
        sampler={"name": "grid"}, pruner={"name": "none"}, replicas={"seeds": 2, "top": 1},
    )  # fmt: skip
    while not bridge.done:
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    trials = read_study(bridge.directory).trials
    assert trials[0].params == dapo
    points = [tuple(each.params.values()) for each in trials[1:5]]
    assert sorted(points) == [(8, 0.1), (8, 0.4), (32, 0.1), (32, 0.4)]
    assert [each.params for each in trials[5:] if each.confirms == 0] == [dapo, dapo]
    fipo = yaml.safe_load((trials[0].directory / "config.yaml").read_text())["fipo"]
    assert (fipo["half_life"], fipo["epsilon_f_high"]) == (16, 0)
    assert checked_control(bridge.spec, "again", dapo).values == dapo
    with pytest.raises(UserError, match=r"fipo.half_life = 64.0 lies outside space, one of 8.0, 32.0"):
        checked_control(bridge.spec, "new", dapo | {"fipo.half_life": 64})


@pytest.mark.parametrize("sampler", ["tpe", "grid", "gp", "nsga-ii", "random"])
def test_off_can_be_swept_and_a_controls_value(make_bridge, run_trial, sampler):
    cap = "rollout.importance_cap"
    space = {cap: {"type": "grid" if sampler == "grid" else "choice", "values": [None, 2]}}
    controls = [{"label": "uncorrected", "values": {cap: None}}]
    bridge = make_bridge(
        space=space,
        enqueue=controls,
        sampler={"name": sampler},
        pruner={"name": "none"},
        trials=3 if sampler == "grid" else 6,
    )
    while not bridge.done:
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    results = read_study(bridge.directory)
    for trial in results.trials:
        config = yaml.safe_load((trial.directory / "config.yaml").read_text())
        assert config["rollout"]["importance_cap"] == trial.params[cap]
    assert {trial.params[cap] for trial in results.trials} == {None, 2.0}
    shown = {setting(trial, cap) for trial in results.trials}
    assert shown == {"null", "2"} and results.trials[0].control == "uncorrected"
