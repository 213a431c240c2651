"""The bridge under real Ray Tune: made-up curves, real scheduling, states read back by plain Optuna."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mlflow
import optuna
import pytest
import ray

from study.bridge import Bridge, StudyAborted
from study.cluster import own_groups, ray_session
from study.spec import Resources

pytestmark = pytest.mark.slow

RATE = {"optimizer.learning_rate": {"type": "choice", "values": [1e-4, 2e-3]}}
CURVE = {1e-4: [0.2, 0.3, 0.4, 0.5, 0.6], 2e-3: [0.2, 0.25, 0.1, 0.0, 0.0]}


@pytest.fixture(scope="module")
def tuner() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")  # Ray's processes have the environment of the moment it is started
        with ray_session(Resources()):
            import study.tuner

            yield study.tuner


def controls(*rates: float) -> list[dict[str, object]]:
    return [{"label": f"{number}", "values": {"optimizer.learning_rate": rate}} for number, rate in enumerate(rates)]


def trainable(misbehave=None):
    """A trial whose accuracy follows CURVE by its learning rate; `misbehave(number, step)` may replace a result."""
    import yaml
    from ray import tune

    class Curve(tune.Trainable):
        def setup(self, config):
            self.reset_config(config)

        def reset_config(self, config):
            path = Path(config["directory"]) / "config.yaml"
            rate = yaml.safe_load(path.read_text())["optimizer"]["learning_rate"]
            self.number, self.values, self.index = config["number"], CURVE[rate], 0
            return True

        def step(self):
            if self.index == len(self.values):
                return {"done": True}
            step, value = self.index * 5, self.values[self.index]
            self.index += 1
            replaced = misbehave(self.number, step) if misbehave else None
            return replaced or {"step": step, "training_iteration": step, "value": value}

    return Curve


class Others:
    """Another job's actor, as far as Ray's scheduler knows."""

    def there(self):
        return True


def states(bridge) -> dict[int, optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{bridge.directory / 'optuna.db'}"
    return {trial.number: trial for trial in optuna.load_study(study_name="unit", storage=storage).trials}


def test_the_median_prunes_the_collapsing_trials_and_completes_the_others(make_bridge, tuner, tmp_path):
    rates = [1e-4, 1e-4, 2e-3, 1e-4, 2e-3, 1e-4]
    bridge = make_bridge(
        trials=6, space=RATE, enqueue=controls(*rates), pruner={"name": "median", "n_startup_trials": 2}
    )
    tuner.run_trials(bridge, trainable(), concurrency=lambda: 1, scratch=tmp_path)
    trials = states(bridge)
    assert [trials[number].state.name for number in range(6)] == [
        "COMPLETE", "COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "COMPLETE",
    ]  # fmt: skip
    assert trials[0].value == 0.6
    assert trials[0].intermediate_values == dict(zip(range(0, 25, 5), CURVE[1e-4], strict=True))
    assert trials[2].user_attrs["pruned_at"] == 5  # 0.25 against a median of 0.3
    assert trials[2].intermediate_values == {0: 0.2, 5: 0.25}


def test_a_failing_trial_is_told_as_fail_and_the_study_goes_on(make_bridge, tuner, tmp_path):
    def misbehave(number, step):
        if step == 10 and number == 0:
            return {"failed": "loss is not finite at step 8", "user_error": False}
        if step == 10 and number == 1:
            raise RuntimeError("boom")
        if step == 10 and number == 2:
            os._exit(1)
        if step == 10 and number == 3:
            return {"step": step, "value": math.nan}
        return {"done": True} if step == 10 and number == 4 else None

    bridge = make_bridge(trials=6, space=RATE, enqueue=controls(*[1e-4] * 6), pruner={"name": "none"})
    tuner.run_trials(bridge, trainable(misbehave), concurrency=lambda: 2, scratch=tmp_path)
    trials = states(bridge)
    assert [trials[number].state.name for number in range(6)] == ["FAIL"] * 5 + ["COMPLETE"]
    reasons = [trials[number].user_attrs["fail_reason"] for number in range(5)]
    assert reasons[0] == "loss is not finite at step 8"
    assert reasons[1] == reasons[2] == f"{tuner.DIED} more often than resources.retries allows; see driver.log"
    assert reasons[3] == "avg@k is nan at step 10"
    assert reasons[4] == "ended after step 5 of 20"


def test_a_study_waits_while_no_trial_fits(make_bridge, tuner, tmp_path):
    """As when a cluster has lost a node."""
    bridge = make_bridge(trials=2, space=RATE, enqueue=controls(1e-4, 1e-4), pruner={"name": "none"})
    room = itertools.chain([0] * 5, [1] * 8, [0] * 5, itertools.repeat(1))
    tuner.run_trials(bridge, trainable(), concurrency=lambda: next(room), scratch=tmp_path)
    assert [trial.state.name for trial in states(bridge).values()] == ["COMPLETE", "COMPLETE"]


def test_a_trial_is_not_started_anew_where_the_drivers_node_has_died(make_bridge, tuner, monkeypatch):
    """Tune would make a placement group that no one removes any more."""
    bridge = make_bridge()
    bridge.ask()
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "another", "Alive": True}])
    scheduler, trial = tuner.BridgeScheduler(bridge), SimpleNamespace(config={"number": 0})
    with pytest.raises(StudyAborted, match="the node of the driver has died"):
        scheduler.on_trial_error(None, trial)
    assert trial.config == {"number": 0}


def test_trials_that_always_fail_end_at_the_cap(make_bridge, tuner, tmp_path):
    bridge = make_bridge(trials=5, space=RATE)
    failing = trainable(lambda number, step: {"failed": "loss is not finite at step 1", "user_error": False})
    tuner.run_trials(bridge, failing, concurrency=lambda: 2, scratch=tmp_path)
    assert [trial.state.name for trial in states(bridge).values()] == ["FAIL"] * 5


@pytest.mark.parametrize(("at", "ended"), [(0, 1), (10, 5)])
def test_what_no_one_has_thought_of_ends_a_study_when_it_comes_twice_before_any_trial_has_trained(
    make_bridge, tuner, tmp_path, at, ended
):
    """As when no engine can be started: every trial would load its model and fail alike."""
    odd = {"failed": "IndexError: list index out of range; see driver.log", "user_error": False, "unexpected": True}
    bridge = make_bridge(trials=5, space=RATE, enqueue=controls(*[1e-4] * 5), pruner={"name": "none"})
    failing = trainable(lambda number, step: odd if step == at else None)
    with contextlib.suppress(StudyAborted) if at else pytest.raises(StudyAborted, match="list index out of range"):
        tuner.run_trials(bridge, failing, concurrency=lambda: 1, scratch=tmp_path)
    assert sum(trial.state.name == "FAIL" for trial in states(bridge).values()) == ended


def test_a_user_error_of_one_trial_alone_ends_only_that_trial(make_bridge, tuner, tmp_path):
    def misbehave(number, step):
        return {"failed": "every prompt is too long", "user_error": True} if (number, step) == (1, 5) else None

    bridge = make_bridge(trials=3, space=RATE, enqueue=controls(*[1e-4] * 3), pruner={"name": "none"})
    tuner.run_trials(bridge, trainable(misbehave), concurrency=lambda: 1, scratch=tmp_path)
    assert [trial.state.name for trial in states(bridge).values()] == ["COMPLETE", "FAIL", "COMPLETE"]


def test_a_look_at_a_racing_evaluation_is_answered_and_is_no_result(make_bridge, tuner, tmp_path):
    def misbehave(number, step):
        return {"step": 5, "training_iteration": 5, "look": 2, "solved": [0, 1]} if step == 5 else None

    bridge = make_bridge(trials=1, space=RATE, enqueue=controls(1e-4), pruner={"name": "aime"})
    asked = []
    bridge.look = lambda number, **look: asked.append((number, look))
    tuner.run_trials(bridge, trainable(misbehave), concurrency=lambda: 1, scratch=tmp_path)
    assert asked == [(0, {"step": 5, "samples": 2, "solved": [0, 1]})]
    assert states(bridge)[0].intermediate_values == {0: 0.2, 10: 0.4, 15: 0.5, 20: 0.6}


def tensorboard_values(folder: Path, tag: str) -> dict[int, float]:
    """A number by step, read from the event files of `folder`: records of length, checksum, content, checksum."""
    from tensorboardX.proto import event_pb2

    found = {}
    for file in folder.glob("events*"):
        data, start = file.read_bytes(), 0
        while start < len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            event = event_pb2.Event.FromString(data[start + 12 : start + 12 + length])
            for each in event.summary.value:
                if each.tag == f"ray/tune/{tag}":
                    found[event.step] = each.simple_value
            start += length + 16
    return found


def wandb_values(log: Path, name: str) -> dict[int, float]:
    """A number by step, read from an offline run's log: a head of 7 bytes, then records, cut where a block of 32 KiB
    ends, each piece after a checksum, its length and its kind: 1 is a whole record, 4 the last piece of one."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, start, record, found = log.read_bytes(), 7, b"", {}
    while start + 7 <= len(data):
        if (left := 32768 - start % 32768) < 7:
            start += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, start)
        record += data[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):
            items = {
                "/".join(each.nested_key) or each.key: each.value_json
                for each in Record.FromString(record).history.item
            }
            if name in items:
                found[int(items["_step"])] = float(items[name])
            record = b""
    return found


def test_every_tracker_that_is_asked_for_gets_the_results_under_their_training_steps(
    make_bridge, tuner, tmp_path, monkeypatch
):
    """An evaluation's under its own, and what was measured in training under each between, which is told after a look
    at the evaluation that races."""
    looked = set()

    def with_metrics(number, step):
        told = [{"step": each, "grad_norm": each / 8} for each in range(max(step - 4, 1), step + 1)]
        told = told or [{"step": 0}]
        told[-1]["sums_select/avg@8"] = CURVE[1e-4][step // 5]  # as of an evaluation
        return {"step": step, "training_iteration": step, "value": CURVE[1e-4][step // 5], "metrics": told}

    class Racing(trainable(with_metrics)):
        def step(self):
            if (step := self.index * 5) in looked or self.index == len(self.values):
                return super().step()
            looked.add(step)
            return {"step": step, "training_iteration": step, "look": 2, "solved": [0, 1]}

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a store that needs no server
    uri = (tmp_path / "mlruns").as_uri()
    bridge = make_bridge(
        trials=1, space=RATE, enqueue=controls(1e-4), pruner={"name": "none"},
        tracking={"wandb": {"project": "fipo"}, "mlflow": {"tracking_uri": uri}},
    )  # fmt: skip
    tuner.run_trials(bridge, Racing, concurrency=lambda: 1, scratch=tmp_path)
    norms = {step: step / 8 for step in range(1, 21)}
    curve = dict(zip(range(0, 25, 5), CURVE[1e-4], strict=True))
    board = bridge.directory / "tensorboard" / "0000"
    assert tensorboard_values(board, "value") == pytest.approx(curve)
    assert tensorboard_values(board, "metrics/grad_norm") == norms

    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("unit").experiment_id])
    assert run.info.run_name == "0000"
    assert run.data.params["optimizer.learning_rate"] == "0.0001" and run.data.params["label"] == "0"
    assert {each.step: each.value for each in client.get_metric_history(run.info.run_id, "value")} == curve

    norm = client.get_metric_history(run.info.run_id, "metrics/grad_norm")
    assert [(each.step, each.value) for each in norm] == list(norms.items())

    score = client.get_metric_history(run.info.run_id, "metrics/sums_select/avg_at_8")
    assert {each.step: each.value for each in score} == curve

    (log,) = bridge.directory.glob("wandb/offline-run-*/run-*.wandb")  # not where it goes with Ray's own files
    assert b"optimizer.learning_rate" in log.read_bytes()
    assert wandb_values(log, "metrics/grad_norm") == norms


def test_a_trial_that_tells_its_steps_again_after_a_death_is_logged_once(tuner, tmp_path, make_spec):
    from ray.tune.logger import LoggerCallback

    from study.trackers import EveryStep

    logged = []

    class Tracker(LoggerCallback):
        def log_trial_result(self, iteration, trial, result):
            logged.append((iteration, result["metrics"].get("step"), result.get("value")))

    class Ours(EveryStep, Tracker):
        pass

    ours = Ours()
    for value, first, last in ((0.1, 1, 0), (0.2, 1, 2), (0.3, 1, 4)):  # the base model has no step
        told = [{"step": step} for step in range(first, last + 1)]
        ours.log_trial_result(last, "trial", {"value": value, "metrics": told})
    ours.log_trial_result(4, "trial", {"value": None})  # last words
    assert logged == [(0, None, 0.1), (1, 1, None), (2, 2, 0.2), (3, 3, None), (4, 4, 0.3), (4, None, None)]


def test_a_study_for_which_there_is_no_node_says_so_and_can_be_stopped(make_bridge, tuner, tmp_path):
    """Also when the nodes go after Tune has begun to wait for the first trial: it takes no step then."""
    bridge, told, room = make_bridge(space=RATE), [], iter([1])

    def tell(event, text, **numbers):
        told.append(text)
        (bridge.directory / "commands").mkdir()
        (bridge.directory / "commands" / "1.json").write_text('{"kind": "stop"}')

    bridge.notifier.tell = tell
    tuner.run_trials(bridge, trainable(), concurrency=lambda: next(room, 0), scratch=tmp_path)
    assert told == ["no trial fits on the nodes that are left; the study waits for more"]
    assert bridge.ending == "stopped by hand"


def test_a_study_whose_room_others_take_can_be_stopped_and_its_trackers_end_in_order(
    make_bridge, tuner, monkeypatch, tmp_path
):
    """Its trial would notice only when it has got room. W&B uploads what it holds when the experiment ends."""
    ended = []

    class Tracker(ray.tune.Callback):
        def on_experiment_end(self, trials, **info):
            ended.append(len(trials))

    bridge = make_bridge(space=RATE, enqueue=controls(1e-4))
    monkeypatch.setattr(tuner.Supervisor, "_PATIENCE", 0.5)  # between two looks
    monkeypatch.setattr(tuner, "trackers", lambda spec, directory: [Tracker()])
    bridge.waits = lambda why: bridge.end("stopped by hand")
    others = ray.remote(Others).options(num_cpus=ray.cluster_resources()["CPU"]).remote()
    ray.get(others.there.remote())
    try:
        tuner.run_trials(bridge, trainable(), concurrency=lambda: 1, scratch=tmp_path)
        assert own_groups() == {}
    finally:
        ray.kill(others)
    assert (bridge.ending, ended) == ("stopped by hand", [1])
    assert states(bridge)[0].state.name == "RUNNING"  # to be resumed


def test_each_death_of_a_trial_is_counted_for_its_next_start(make_bridge, tuner):
    bridge = make_bridge()
    bridge.ask()
    scheduler, trial = tuner.BridgeScheduler(bridge), SimpleNamespace(config={"number": 0})
    for expected in (1, 2):
        scheduler.on_trial_error(None, trial)
        assert trial.config == {"number": 0, "deaths": expected}
        assert states(bridge)[0].user_attrs["deaths"] == expected


def test_a_full_disk_ends_the_study_and_leaves_what_ran_to_be_resumed(make_bridge, tuner, tmp_path):
    bridge = make_bridge(trials=3, space=RATE, enqueue=controls(*[1e-4] * 3), pruner={"name": "none"})
    full = trainable(lambda number, step: {"abort": "no room"} if (number, step) == (1, 10) else None)
    with pytest.raises(StudyAborted, match="no room"):
        tuner.run_trials(bridge, full, concurrency=lambda: 1, scratch=tmp_path)
    assert [trial.state.name for trial in states(bridge).values()] == ["COMPLETE", "RUNNING", "WAITING"]
    assert own_groups() == {}  # the room is given back, whatever the end
    tuner.run_trials(
        Bridge(bridge.study, bridge.spec, bridge.directory), trainable(), concurrency=lambda: 1, scratch=tmp_path
    )
    trials = states(bridge)
    assert [trial.state.name for trial in trials.values()] == ["COMPLETE"] * 3
    assert trials[1].intermediate_values == dict(zip(range(0, 25, 5), CURVE[1e-4], strict=True))


def test_an_interrupted_study_gives_its_room_back(make_bridge, tuner, tmp_path):
    bridge = make_bridge(trials=2, space=RATE, enqueue=controls(1e-4, 1e-4), pruner={"name": "none"})

    def interrupted(number, report):
        assert "CREATED" in own_groups().values()
        raise KeyboardInterrupt

    bridge.report = interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.run_trials(bridge, trainable(), concurrency=lambda: 2, scratch=tmp_path)
    assert own_groups() == {}


def test_a_user_error_before_any_training_ends_the_study_with_its_line(make_bridge, tuner, tmp_path):
    bridge = make_bridge(trials=50, space=RATE)
    broken = trainable(lambda number, step: {"failed": "model.path: nothing there", "user_error": True})
    with pytest.raises(StudyAborted, match=r"model\.path: nothing there"):
        tuner.run_trials(bridge, broken, concurrency=lambda: 2, scratch=tmp_path)
    # A control that failed would be lost: what was hit goes on once that is mended.
    assert {trial.state.name for trial in states(bridge).values()} == {"RUNNING"}
    mended = Bridge(bridge.study, bridge.spec.model_copy(update={"trials": 2}), bridge.directory)
    tuner.run_trials(mended, trainable(lambda number, step: None), concurrency=lambda: 2, scratch=tmp_path)
    assert [trial.state.name for trial in states(mended).values()] == ["COMPLETE"] * 2


@pytest.mark.parametrize("seen", [0, 1])
def test_a_node_that_does_not_see_the_study_ends_it_with_a_line_and_is_no_death(make_bridge, tuner, tmp_path, seen):
    """The trial's own process stands there, and Ray would tell its death if it raised while it is made. The first
    `seen` trials stand elsewhere."""
    from study.trial import StudyTrial

    class OnABadNode(StudyTrial):
        def reset_config(self, config):
            self.sees, self.steps = config["number"] < seen, iter([5, 20])
            return self.sees or super().reset_config(config | {"directory": "/not/here/trials/0000"})

        def step(self):
            if not self.sees:
                return super().step()
            step = next(self.steps, None)
            return {"step": step, "training_iteration": step, "value": 0.5} if step else {"done": True}

    bridge = make_bridge(trials=5, space=RATE, enqueue=controls(*[1e-4] * 5), pruner={"name": "none"})
    with pytest.raises(StudyAborted, match=r"--out /not/here: not visible on node [\d.]+; put the study on"):
        tuner.run_trials(bridge, OnABadNode, concurrency=lambda: 1, scratch=tmp_path)
    trials = [trial for trial in states(bridge).values() if trial.state.name in ("COMPLETE", "FAIL")]
    assert [trial.state.name for trial in trials] == (["COMPLETE", "FAIL"] if seen else [])
    assert not any("deaths" in trial.user_attrs for trial in trials)
