"""Commands to a study, with a driver that answers and without one."""

from __future__ import annotations

import os
import threading
import time

import pytest

from study import commands, lock
from study.assignment import Report
from study.bridge import Bridge
from study.commands import Add, Change, Enqueue, Stop, answer_all, carry_out, drop_unanswered, send
from study.directory import Staging
from study.lock import driver_lock
from study.results import read_study
from study.spec import Mlflow, StudySpec, Tracking
from trainer.errors import UserError

RATE = "optimizer.learning_rate"


@pytest.fixture
def driven(make_bridge):
    """A bridge whose driver looks for commands, as the real one does between two steps of Tune."""
    bridge, stop = make_bridge(trials=2), threading.Event()

    def drive() -> None:
        while not stop.wait(0.05):
            answer_all(bridge)

    thread = threading.Thread(target=drive)
    thread.start()
    yield bridge
    stop.set()
    thread.join()


def written(bridge: Bridge) -> StudySpec:
    return StudySpec.from_file(bridge.directory / "study.yaml")


def test_a_driver_that_does_not_answer_is_an_error_and_may_take_the_command_up_later(make_bridge, monkeypatch):
    """As while it waits for its database."""
    bridge = make_bridge(trials=2)
    monkeypatch.setattr(commands, "_PATIENCE_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"the driver has not answered in 0 s .* takes the command up when it can"):
        send(bridge.directory, Add(trials=1))
    answer_all(bridge)
    assert written(bridge).trials == 3


@pytest.mark.parametrize("stale_after", [0.0, 0.5], ids=["long ago", "while one waits"])
@pytest.mark.parametrize("command", [Stop(), Add(trials=1)], ids=["stop", "add"])
def test_a_command_to_a_suspended_driver_is_refused_with_what_has_it_go_on(
    make_bridge, monkeypatch, stale_after, command
):
    bridge = make_bridge(trials=2)
    monkeypatch.setattr(lock, "STALE_SECONDS", stale_after)
    os.utime(bridge.directory / "driver.json")
    with pytest.raises(UserError, match=f"silent for more than .*kill -CONT {os.getpid()}"):
        send(bridge.directory, command)
    assert not list(bridge.directory.glob("commands/*")) and written(bridge).trials == 2


def test_more_trials_are_run_and_written_down(driven):
    assert driven.ask() and driven.ask() and driven.ask() is None
    assert send(driven.directory, Add(trials=3)) == "trials is 5"
    assert written(driven).trials == 5
    assert driven.ask().number == 2


def test_an_enqueued_trial_is_next_with_its_values_and_label(driven):
    send(driven.directory, Enqueue(label="guess", values={RATE: 2e-3}))
    assert driven.ask().params == {RATE: 2e-3}
    (trial,) = read_study(driven.directory).trials
    assert (trial.control, trial.enqueued) == (None, "guess")
    assert written(driven).trials == 3


def test_what_is_enqueued_right_behind_the_controls_is_no_control(make_bridge, run_trial):
    bridge = make_bridge(trials=1, enqueue=[{"label": "DAPO", "values": {RATE: 1e-3}}])
    run_trial(bridge, [0.1] * 5)
    carry_out(bridge, Enqueue(label="guess", values={RATE: 2e-3}))
    run_trial(bridge, [0.1] * 5)
    first, second = read_study(bridge.directory).trials
    assert [(each.control, each.enqueued) for each in (first, second)] == [("DAPO", None), (None, "guess")]


def test_an_enqueued_value_that_the_space_does_not_have_is_told(driven):
    said = send(driven.directory, Enqueue(label="DAPO", values={RATE: 2e-3, "fipo.epsilon_f_high": 0.5}))
    assert said == "trials is 3; DAPO is next in the queue; not in space: fipo.epsilon_f_high 0.5"
    assert "epsilon_f_high: 0.5\n" in (driven.ask().directory / "config.yaml").read_text()


def test_a_trial_whose_file_is_missing_or_that_cannot_be_added_is_refused_and_not_queued(make_bridge, tmp_path):
    bridge = make_bridge(trials=2, sampler={"name": "random"})
    with pytest.raises(UserError, match=r"enqueue typo: data.train = '/no/such.jsonl': no such file"):
        carry_out(bridge, Enqueue(label="typo", values={RATE: 2e-3, "data.train": "/no/such.jsonl"}))
    bridge.spec = bridge.spec.model_copy(update={"tracking": Tracking(mlflow=Mlflow(tracking_uri="x"))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.settings.find_spec", lambda name: None)
        with pytest.raises(UserError, match="the package mlflow is not installed"):
            carry_out(bridge, Enqueue(label="late", values={RATE: 2e-3}))
    assert bridge.study.get_trials() == [] and bridge.spec.trials == 2


def test_what_an_enqueued_trial_leaves_to_the_sampler_is_told(make_bridge):
    rate = {"type": "log-uniform", "low": 1e-5, "high": 1e-2}
    bridge = make_bridge(space={RATE: rate, "fipo.half_life": {"type": "uniform", "low": 4, "high": 64}})
    said = carry_out(bridge, Enqueue(label="guess", values={RATE: 2e-3}))
    assert said.endswith("guess is next in the queue; the sampler chooses fipo.half_life")


def test_what_is_enqueued_behind_confirmations_is_said_to_come_after_them(make_bridge, run_trial):
    bridge = make_bridge(trials=1, replicas={"seeds": 3, "top": 1})
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    bridge.ask()  # the first of three
    for label, place in (("one", "after the 2 trials"), ("two", "after the 3 trials")):
        assert f"; {label} comes {place} in the queue" in carry_out(bridge, Enqueue(label=label, values={RATE: 2e-3}))
    for number in (2, 3):
        bridge.ask()
        assert read_study(bridge.directory).trials[number].confirms == 0
    bridge.ask()
    assert read_study(bridge.directory).trials[4].enqueued == "one"


def test_confirmations_that_are_queued_already_are_said_to_run_whatever_replicas_says_now(make_bridge, run_trial):
    bridge = make_bridge(trials=1, replicas={"seeds": 3, "top": 1})
    fewer = Change(values={"replicas.seeds": 2})
    assert carry_out(bridge, fewer) == "replicas.seeds is 2"
    carry_out(bridge, Change(values={"replicas.seeds": 3}))
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    bridge.ask()  # the first of three
    assert carry_out(bridge, fewer) == "replicas.seeds is 2; 2 confirmations in the queue will run all the same"


def test_concurrency_and_budget_change_while_the_study_runs(driven):
    send(driven.directory, Change(values={"concurrency": 7, "budget.accuracy": 0.5}))
    assert driven.spec.concurrency == written(driven).concurrency == 7
    driven.account.completed(0.6)
    assert driven.account.spent() is not None


def test_a_concurrency_that_the_machine_does_not_reach_is_said(driven):
    cores = os.cpu_count()
    assert send(driven.directory, Change(values={"concurrency": cores})) == f"concurrency is {cores}"
    said = send(driven.directory, Change(values={"concurrency": cores + 1}))
    assert said == f"concurrency is {cores + 1}; only {cores} fit at a time on what is there"


def test_fewer_trials_than_have_begun_is_said_to_start_none(driven):
    driven.ask()
    driven.ask()
    assert send(driven.directory, Change(values={"trials": 3})) == "trials is 3"
    said = send(driven.directory, Change(values={"trials": 1}))
    assert said == "trials is 1; 2 have begun already, so none is started any more"


def test_what_waits_beyond_fewer_trials_does_not_begin_until_they_are_more_again(make_bridge, run_trial):
    """Controls too; only they are held back, so the confirmations of what completed come without them."""
    enqueue = [{"label": name, "values": {RATE: rate}} for name, rate in (("a", 1e-3), ("b", 2e-3), ("c", 3e-3))]
    bridge = make_bridge(trials=6, enqueue=enqueue, replicas={"seeds": 2, "top": 1}, pruner={"name": "none"})
    run_trial(bridge, [0.1] * 5)
    carry_out(bridge, Change(values={"trials": 1}))
    assert not bridge.done and read_study(bridge.directory).planned == 3
    for _ in range(2):
        run_trial(bridge, [0.1] * 5)
    assert bridge.done and bridge.ask() is None
    results = read_study(bridge.directory)
    assert [(each.state, each.confirms) for each in results.trials if each.state != "WAITING"] == [
        ("COMPLETE", None), ("COMPLETE", 0), ("COMPLETE", 0)
    ]  # fmt: skip
    assert (results.ended, results.planned) == (3, 3)
    assert carry_out(bridge, Add(trials=1)) == "trials is 2"
    assert not bridge.done and bridge.ask().params == {RATE: 2e-3}
    carry_out(bridge, Change(values={"trials": 1}))
    assert carry_out(bridge, Add(trials=1)) == "trials is 3"  # of those that have begun, not of what was written


def test_what_is_enqueued_after_fewer_trials_begins_behind_those_that_they_held_back(make_bridge, run_trial):
    enqueue = [{"label": name, "values": {RATE: rate}} for name, rate in (("a", 1e-3), ("b", 2e-3))]
    bridge = make_bridge(trials=6, enqueue=enqueue)
    run_trial(bridge, [0.1] * 5)
    carry_out(bridge, Change(values={"trials": 1}))
    said = carry_out(bridge, Enqueue(label="guess", values={RATE: 4e-3}))
    assert said == "trials is 3; guess comes after the 1 trial in the queue"
    assert [bridge.ask().params[RATE], bridge.ask().params[RATE], bridge.ask()] == [2e-3, 4e-3, None]


def test_a_stopped_trial_is_pruned_where_it_stands_and_the_study_goes_on(driven):
    number = driven.ask().number
    driven.report(number, Report(5, 0.3))
    send(driven.directory, Stop(trial=number))
    assert (driven.directory / "trials/0000/stop").exists()
    driven.finish(number)
    (trial,) = read_study(driven.directory).trials
    assert (trial.state, trial.pruned_at, trial.stop_reason) == ("PRUNED", 5, "stopped by hand")
    assert driven.ask() is not None


def test_the_cluster_and_the_retries_can_be_changed_for_the_next_driver(driven):
    said = send(driven.directory, Change(values={"resources.ray_address": "auto", "resources.retries": 8}))
    assert said == "from the next resume on resources.ray_address is auto, resources.retries is 8"
    said = send(driven.directory, Change(values={"resources.retries": 9, "trials": 7, "concurrency": 1}))
    assert said == "trials is 7, concurrency is 1; from the next resume on resources.retries is 9"
    resources = read_study(driven.directory).spec.resources
    assert (resources.ray_address, resources.retries) == ("auto", 9)
    with pytest.raises(UserError, match=r"resources\.workers = 2: cannot change"):
        send(driven.directory, Change(values={"resources.workers": 2}))


def test_of_two_commands_the_newer_is_the_last_word(make_bridge):
    bridge = make_bridge()
    folder = bridge.directory / "commands"
    folder.mkdir()
    for name, trials in (("1", 5), ("2", 4), ("3", 6)):
        (folder / f"{name}.json").write_text(Change(values={"trials": trials}).model_dump_json())
    answer_all(bridge)
    assert written(bridge).trials == bridge.spec.trials == 6


def test_what_no_driver_has_answered_is_dropped_and_told(make_bridge):
    bridge = make_bridge(trials=2)
    folder = bridge.directory / "commands"
    folder.mkdir()
    (folder / "1.json").write_text(Stop().model_dump_json())
    (folder / "2.json").write_text(Change(values={"concurrency": 3}).model_dump_json())
    (folder / "0.answer").write_text('{"done": "long ago"}')
    stop, change = drop_unanswered(bridge.directory)
    assert '"kind":"stop"' in stop and "was answered by no driver and is dropped; give it again" in stop
    assert '"concurrency":3' in change and list(folder.iterdir()) == []
    answer_all(bridge)
    assert bridge.ending is None and written(bridge).concurrency == 2 and drop_unanswered(bridge.directory) == []


def test_a_stopped_study_begins_nothing(driven):
    driven.ask()
    assert "fipo resume" in send(driven.directory, Stop())
    assert driven.ask() is None
    assert driven.ending == "stopped by hand"


def test_a_gamma_where_the_space_has_the_half_life_is_told_to_be_given_as_that(make_bridge):
    bridge = make_bridge(space={"fipo.half_life": {"type": "uniform", "low": 4, "high": 64}})
    with pytest.raises(UserError, match=r"fipo.gamma is the same quantity as fipo.half_life, which space has; give it"):
        carry_out(bridge, Enqueue(label="x", values={"fipo.gamma": 0.9}))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (Stop(trial=9), "--trial 9: is not open (begun, and not ended); no trial is"),
        (Change(values={"pruner.name": "none"}), "cannot change once a study has begun; allowed: trials"),
        (Change(values={"sampler.name": "random"}), "cannot change once a study has begun; allowed: trials"),
        (Change(values={"concurency": 3}), "concurency = 3: is no key; did you mean concurrency?; allowed: trials"),
        (Change(values={"fipo.gamma": 0.9}), "fipo.gamma = 0.9: is no key of a study; what is trained does not"),
        (Change(values={"notify.on": "best"}), "set: notify.on = best: a list belongs here; write [best]"),
        (Change(values={"concurrency": 0}), "concurrency = 0: input should be greater than or equal to 1"),
        (Change(values={"budget.gpu_hours": 5}), "gpus_per_worker is 0"),
        (Enqueue(label="x", values={RATE: 1.0}), "lies outside space, 1e-05 to 0.01; choose a value within"),
        (Enqueue(label="x", values={"fipo.gama": 1.0}), "did you mean fipo.gamma?"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_driver_too(driven, command, words):
    before = written(driven)
    with pytest.raises(UserError) as refusal:
        send(driven.directory, command)
    assert words in str(refusal.value)
    assert written(driven) == before
    assert list((driven.directory / "commands").iterdir()) == []


def test_a_grid_takes_more_controls_but_no_more_points_than_it_has(make_bridge):
    space = {"fipo.half_life": {"type": "grid", "values": [8, 32]}}
    bridge = make_bridge(trials=2, space=space, sampler={"name": "grid"}, pruner={"name": "none"})
    carry_out(bridge, Enqueue(label="again", values={"fipo.half_life": 8}))
    with pytest.raises(UserError, match="trials = 4: the grid has 2 points, and 1 were enqueued; set at most 3"):
        carry_out(bridge, Add(trials=1))


def test_what_is_no_command_does_not_end_the_study(driven):
    folder = driven.directory / "commands"
    folder.mkdir()
    for name, text in (("01", "{"), ("02", '{"kind": "explode"}'), ("03", '{"kind": "add", "trials": -1}')):
        (folder / f".{name}").write_text(text)
        (folder / f".{name}").rename(folder / f"{name}.json")
    assert send(driven.directory, Add(trials=1)) == "trials is 3"  # the last of four
    for name in ("01", "02", "03"):
        assert f"{name}.json: is not a command" in (folder / f"{name}.answer").read_text()


def test_a_command_to_a_driver_that_ends_without_looking_is_carried_out_at_once(tmp_path, make_spec):
    """And does not lie in wait for the next driver."""
    directory = tmp_path / "study"
    staging = Staging(make_spec(trials=2), directory)
    staging.publish()
    staging.discard()
    held = threading.Event()

    def drive() -> None:
        with driver_lock(directory):
            held.set()
            while not list((directory / "commands").glob("*.json")):
                time.sleep(0.01)

    driver = threading.Thread(target=drive)
    driver.start()
    held.wait()
    assert "trials is 5; no one drives the study" in send(directory, Add(trials=3))
    driver.join()
    assert read_study(directory).spec.trials == 5
    assert list((directory / "commands").iterdir()) == []


@pytest.mark.parametrize("driver", [True, False])
def test_a_command_on_a_full_disk_is_one_line(driver, driven, make_spec, tmp_path, full_disk):
    directory = driven.directory
    if not driver:
        directory = tmp_path / "other"
        staging = Staging(make_spec(), directory)
        staging.publish()
        staging.discard()
    with full_disk(), pytest.raises(UserError, match="File too large; mend that, and give the command again"):
        send(directory, Add(trials=3))
    assert read_study(directory).spec.trials < 5
    assert not [path for path in directory.rglob("*") if path.name.startswith(".")]


def test_without_a_driver_commands_are_carried_out_at_once(tmp_path, make_spec):
    from study.storage import create_study, driving

    spec = make_spec(trials=1)
    (tmp_path / "study" / "trials").mkdir(parents=True)
    directory = tmp_path / "study"
    (directory / "study.yaml").write_text(spec.to_yaml())
    create_study(spec, directory)
    with driving(spec, directory) as study:
        Bridge(study, spec, directory).ask()
    assert "trials is 3" in send(directory, Add(trials=2))
    assert "guess is next" in send(directory, Enqueue(label="guess", values={RATE: 2e-3}))
    assert "trial 0 stops" in send(directory, Stop(trial=0))
    with pytest.raises(UserError, match="no one drives it, so nothing runs"):
        send(directory, Stop())
    results = read_study(directory)
    assert results.spec.trials == 4
    assert [trial.state for trial in results.trials] == ["PRUNED", "WAITING"]
    done = send(directory, Change(values={"trials": 1}))
    assert done == "trials is 1; 1 have begun already, so none is started any more; all trials have ended"
    with pytest.raises(UserError, match="the study has ended, with all its trials; there is nothing to stop"):
        send(directory, Stop())
