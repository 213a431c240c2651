"""Reading a study: the same numbers that were written, at any moment of its life, without changing a byte."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace

import pytest

from study.assignment import Report
from study.bridge import Bridge
from study.cli import main
from study.costs import spared_by_pruning
from study.results import find_study, read_metrics, read_study
from study.tables import as_json, state
from trainer.errors import UserError
from trainer.records import Journal

GOOD = [0.2, 0.3, 0.4, 0.5, 0.6]


def test_every_state_is_read_with_what_belongs_to_it(make_bridge, run_trial):
    bridge = make_bridge(
        trials=6,
        pruner={"name": "median", "n_startup_trials": 2},
        enqueue=[{"label": "control", "values": {"optimizer.learning_rate": 1e-3}}],
    )
    run_trial(bridge, GOOD)
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.7])
    run_trial(bridge, [0.2, 0.1, 0.1])
    failing = run_trial(bridge, [0.2], finish=False)
    bridge.fail(failing, "loss is not finite at step 3")
    bridge.finish(failing)
    run_trial(bridge, [0.2, 0.1], finish=False)  # the pruner has stopped it, and it has not ended yet

    results = read_study(bridge.directory)
    assert [trial.state for trial in results.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    control, best, pruned, failed, running = results.trials
    assert results.best == best
    assert (control.control, best.control) == ("control", None)
    assert (best.value, pruned.value, failed.value, running.value) == (0.7, None, None, None)
    assert (pruned.pruned_at, failed.pruned_at, running.pruned_at) == (5, None, None)
    assert bridge.study.trials[running.number].user_attrs["pruned_at"] == 5
    assert failed.fail_reason == "loss is not finite at step 3"
    assert [each.step for each in running.evaluations] == [0, 5]
    assert (running.steps_done, best.steps_done) == (5, 20)
    assert running.ended is None and best.ended >= best.started
    assert control.params == {"optimizer.learning_rate": 1e-3}
    assert results.metric_name == "sums_select/avg@8"


def test_a_study_of_which_every_trial_failed_ends_with_exit_code_1(make_bridge, monkeypatch, capfd):
    bridge = make_bridge(trials=1)
    number = bridge.ask().number
    bridge.fail(number, "loss is not finite at step 3")
    bridge.finish(number)
    monkeypatch.setattr("study.launch.resume", lambda directory, watcher: read_study(directory))
    monkeypatch.setattr("sys.argv", ["fipo", "resume", str(bridge.directory)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1 and "No trial is COMPLETE; the reasons: fipo status" in capfd.readouterr().out


def test_another_seed_is_no_other_setting(make_bridge, run_trial):
    bridge = make_bridge(trials=1)
    run_trial(bridge, GOOD)
    (trial,) = read_study(bridge.directory).trials
    assert replace(trial, beside={"seed": 3, "fipo.clip_high": 0.2}).unswept == {"fipo.clip_high": 0.2}


def test_confirmations_are_planned_beside_the_trials_of_the_study(make_bridge, run_trial):
    bridge = make_bridge(trials=2)
    run_trial(bridge, GOOD)
    results = read_study(bridge.directory)
    confirming = replace(results.trials[0], number=1, state="WAITING", confirms=0)
    assert results.planned == 2
    assert replace(results, trials=(*results.trials, confirming)).planned == 3
    # A study that was cut to fewer trials than it has keeps those.
    four = tuple(replace(results.trials[0], number=number) for number in range(4))
    assert replace(results, trials=four).planned == 4


def test_a_study_is_finished_when_all_that_it_plans_has_ended(make_bridge, run_trial):
    bridge = make_bridge(trials=2, replicas={"seeds": 2, "top": 1})
    run_trial(bridge, GOOD)
    cut = json.loads(as_json(read_study(bridge.directory)))
    assert (cut["finished"], cut["trials_ended"], cut["trials_planned"]) == (False, 1, 4)
    run_trial(bridge, GOOD)
    assert not json.loads(as_json(read_study(bridge.directory)))["finished"]  # the best is still to be confirmed
    run_trial(bridge, GOOD)
    run_trial(bridge, GOOD)
    whole = json.loads(as_json(read_study(bridge.directory)))
    assert (whole["finished"], whole["trials_ended"], whole["trials_planned"]) == (True, 4, 4)


def test_confirmations_which_are_never_pruned_do_not_count_in_what_pruning_spared(make_bridge, run_trial):
    """Of two trials with 20 steps one was stopped at 5, whatever is confirmed."""
    pruner = {"name": "median", "n_startup_trials": 1}
    bridge = make_bridge(trials=2, replicas={"seeds": 2, "top": 1}, pruner=pruner)
    for accuracies in (GOOD, [0.2, 0.1], GOOD, GOOD):
        run_trial(bridge, accuracies)
    results = read_study(bridge.directory)
    assert [trial.confirms for trial in results.trials] == [None, None, 0, 0]
    assert spared_by_pruning(results) == 15 / 40


def test_a_running_trial_is_seen_to_grow(make_bridge, run_trial):
    bridge = make_bridge()
    number = run_trial(bridge, [0.2], finish=False)
    assert len(read_study(bridge.directory).trials[0].evaluations) == 1
    evaluations = bridge.directory / f"trials/{number:04d}/evaluations.jsonl"
    evaluations.write_text(evaluations.read_text() * 2)
    assert len(read_study(bridge.directory).trials[0].evaluations) == 2
    metrics = {"step": 3} | {f"training/metric_{index}": 0.123456789 for index in range(100)}
    Journal(bridge.directory / f"trials/{number:04d}", writes=True).write_metrics(metrics)
    assert read_study(bridge.directory).trials[0].steps_done == 3


def test_a_torn_last_line_is_left_out(make_bridge, run_trial):
    bridge = make_bridge()
    run_trial(bridge, [0.2, 0.3], finish=False)
    trial = read_study(bridge.directory).trials[0]
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        with (trial.directory / name).open("a") as file:
            file.write('{"step": 10, "lo')
    again = read_study(bridge.directory).trials[0]
    assert [each.step for each in again.evaluations] == [0, 5]
    assert again.steps_done == 5
    assert read_metrics(again)["step"].to_list() == [0, 5]


def test_waiting_controls_show_their_values(make_bridge):
    bridge = make_bridge(enqueue=[{"label": "control", "values": {"optimizer.learning_rate": 1e-3}}])
    (trial,) = read_study(bridge.directory).trials
    assert (trial.state, trial.control, trial.started) == ("WAITING", "control", None)
    assert trial.params == {"optimizer.learning_rate": 1e-3}
    assert read_metrics(trial).is_empty()
    assert trial.steps_done == 0


@pytest.mark.parametrize("database", [None, b""])
def test_a_study_whose_database_is_not_there_yet_has_no_trials(make_bridge, database):
    directory = make_bridge().directory
    (directory / "optuna.db").unlink()
    if database is not None:
        (directory / "optuna.db").write_bytes(database)
    assert read_study(directory).trials == ()
    assert read_study(directory).best is None


def test_reading_a_finished_study_changes_no_file(make_bridge, run_trial, tmp_path):
    bridge = make_bridge()
    run_trial(bridge, GOOD)
    before = {path: path.stat().st_mtime_ns for path in bridge.directory.rglob("*")}
    read_study(bridge.directory)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_database_that_is_none_is_a_user_error(make_bridge, tmp_path):
    directory = tmp_path / "broken"
    shutil.copytree(make_bridge().directory, directory)
    (directory / "optuna.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UserError, match=r"optuna\.db"):
        read_study(directory)


def test_the_newest_study_is_found(tmp_path, monkeypatch, make_bridge):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="fipo launch"):
        find_study(None)
    for age, name in enumerate(["new", "old", ".half-made"]):
        (tmp_path / "studies" / name).mkdir(parents=True)
        (tmp_path / "studies" / name / "study.yaml").touch()
        when = time.time() - age * 100 if age < 2 else time.time() + 100
        os.utime(tmp_path / "studies" / name / "study.yaml", (when, when))
    assert find_study(None).name == "new"


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_directory_that_is_no_study_is_a_user_error(tmp_path, name):
    with pytest.raises(UserError, match="study"):
        find_study(tmp_path / name)


def test_a_trial_is_starting_until_it_tells_something_and_again_when_it_has_lost_a_process(make_bridge):
    bridge = make_bridge()
    seen = []

    def look() -> None:
        (trial,) = read_study(bridge.directory).trials
        seen.append((trial.starting, state(read_study(bridge.directory), trial)))

    bridge.ask()
    look()
    bridge.report(0, Report(0, 0.2))
    look()
    bridge.died(0)
    look()
    bridge.look(0, step=5, samples=2, solved=[1])
    look()
    assert seen == [(True, "STARTING"), (False, "RUNNING"), (True, "STARTING"), (False, "RUNNING")]


def test_a_trial_that_waits_behind_others_after_a_resume_is_starting(make_bridge):
    bridge = make_bridge()
    bridge.ask()
    bridge.report(0, Report(0, 0.2))
    Bridge(bridge.study, bridge.spec, bridge.directory)
    (trial,) = read_study(bridge.directory).trials
    assert trial.starting


def test_a_complete_trial_keeps_its_newest_checkpoint_alone(make_bridge, run_trial):
    bridge = make_bridge()
    for step in (5, 10, 20):
        (bridge.directory / "trials" / "0000" / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.7])
    (kept,) = (bridge.directory / "trials" / "0000" / "checkpoints").iterdir()
    assert kept.name == "step-000020"
