"""A bridge that takes over from a driver that died at any moment: each new one is a driver over the same storage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from study.assignment import Report
from study.bridge import Bridge
from study.peers import Peers
from study.results import collect
from study.spec import StudySpec
from study.storage import create_study, driving
from trainer.records import Journal

CURVE = {0: 0.2, 5: 0.3, 10: 0.4, 15: 0.5, 20: 0.6}
SPACE = {
    "optimizer.learning_rate": {"type": "log-uniform", "low": 1e-5, "high": 1e-2},
    "fipo.half_life": {"type": "log-uniform", "low": 2, "high": 256},
}


class Life:
    """The storage of one study, and the driver that is alive."""

    def __init__(self, spec: StudySpec, directory: Path) -> None:
        (directory / "trials").mkdir(parents=True)
        create_study(spec, directory)
        self.spec, self.directory = spec, directory
        self._stack = contextlib.ExitStack()

    def bridge(self) -> Bridge:
        """A new driver; the one before is gone without a word."""
        self._stack.close()
        study = self._stack.enter_context(driving(self.spec, self.directory))
        return Bridge(study, self.spec, self.directory)

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="unit", storage=f"sqlite:///{self.directory / 'optuna.db'}").trials

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def begin(make_spec: Callable[..., StudySpec], tmp_path: Path) -> Iterator[Callable[..., Life]]:
    with contextlib.ExitStack() as stack:
        yield lambda name="study", **changes: stack.enter_context(
            contextlib.closing(Life(make_spec(**changes), tmp_path / name))
        )


def tell(bridge: Bridge, number: int, *, after: int = -1, until: int = 20) -> bool:
    """Report CURVE at the steps after `after` up to `until`; whether the trial was stopped."""
    return any(
        bridge.report(number, Report(step, value, seconds=float(step)))
        for step, value in CURVE.items()
        if after < step <= until
    )


def test_a_trial_whose_driver_died_after_its_last_report_keeps_both_objectives(begin):
    life = begin(against="length", pruner={"name": "none"}, sampler={"name": "nsga-ii"}, trials=1)
    first = life.bridge()
    number = first.ask().number
    for step, value in CURVE.items():
        first.report(number, Report(step, value, length=100.0 - step))
    life.bridge()  # which tells its end
    assert life.trials()[number].values == [CURVE[20], 80.0]


def test_what_was_running_comes_first_under_its_number_and_config(begin):
    life = begin()
    first = life.bridge()
    paths = [first.ask().directory / "config.yaml" for _ in range(2)]
    configs = [path.read_text() for path in paths]
    tell(first, 1, until=10)
    second = life.bridge()
    again = [second.ask(), second.ask(), second.ask()]
    assert [each.number for each in again] == [0, 1, 2]
    assert [path.read_text() for path in paths] == configs
    for number in range(3):
        tell(second, number)
        second.finish(number)
    assert [trial.state.name for trial in life.trials()] == ["COMPLETE"] * 3
    assert all(trial.intermediate_values == CURVE for trial in life.trials())


def test_a_finished_trial_is_never_handed_out_again(begin):
    life = begin(trials=2)
    bridge = life.bridge()
    bridge.ask()
    tell(bridge, 0)
    bridge.finish(0)
    bridge = life.bridge()
    assert bridge.ask().number == 1
    assert bridge.ask() is None


def test_a_value_that_the_dead_driver_never_saw_is_recorded(begin):
    life = begin()
    bridge = life.bridge()
    bridge.ask()
    tell(bridge, 0, until=5)
    bridge = life.bridge()
    bridge.ask()
    tell(bridge, 0, until=15)  # the run, resumed, tells its past again
    assert life.trials()[0].intermediate_values == {step: value for step, value in CURVE.items() if step <= 15}


def test_the_end_is_told_when_the_driver_died_between_deciding_and_telling(begin):
    life = begin(trials=4, pruner={"name": "median", "n_startup_trials": 1})
    bridge = life.bridge()
    for number in range(4):
        bridge.ask()
        if number == 1:
            continue
        if number == 2:
            assert bridge.report(2, Report(5, 0.1))
        elif number == 3:
            bridge.report(3, Report(5, float("nan")))
        else:
            tell(bridge, number)
            bridge.finish(0)
    tell(bridge, 1)  # all steps reported, nothing finished but trial 0
    bridge = life.bridge()
    states = [trial.state.name for trial in life.trials()]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "RUNNING"]
    assert life.trials()[1].value == CURVE[20]
    assert bridge.ask().number == 3  # it failed in memory only: its run tells the same again
    assert bridge.report(3, Report(5, float("nan")))


def test_a_failure_that_the_driver_died_in_telling_stays_one(begin, monkeypatch):
    life = begin(trials=1)
    bridge = life.bridge()
    bridge.ask()
    bridge.fail(0, "loss is not finite")
    monkeypatch.setattr(bridge.study, "tell", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bridge.finish(0)
    bridge = life.bridge()
    assert bridge.ask() is None
    assert [trial.state.name for trial in life.trials()] == ["FAIL"]
    assert life.trials()[0].user_attrs["fail_reason"] == "loss is not finite"


def test_what_a_trial_took_is_known_when_its_end_is_told_by_another_driver(begin):
    life = begin(trials=1, resources={"gpus_per_worker": 1})
    bridge = life.bridge()
    directory = bridge.ask().directory
    tell(bridge, 0)
    Journal(directory, writes=True).write_metrics({"step": 20, "seconds/total": 1800.0, "tokens": 2000})
    life.bridge()
    assert life.trials()[0].user_attrs["usage"] == {"seconds": 1800.0, "gpu_hours": 0.5, "tokens": 2000}


def test_what_a_trial_takes_goes_on_growing_where_its_study_was_stopped_and_taken_up(begin):
    """Its end tells what it took; a stop is none."""
    life = begin(trials=1, resources={"gpus_per_worker": 1})
    bridge = life.bridge()
    bridge.ask()
    bridge.report(0, Report(5, 0.3, seconds=900.0, tokens=500))
    bridge.end("stopped by hand")
    bridge.finish(0)
    (left,) = life.trials()
    assert left.state.name == "RUNNING" and "usage" not in left.user_attrs
    recorded = {"seconds": 900.0, "gpu_hours": 0.25, "tokens": 500}  # by earlier versions
    bridge.study._storage.set_trial_user_attr(left._trial_id, "usage", recorded)
    bridge = life.bridge()
    journal = Journal(bridge.ask().directory, writes=True)
    for step, seconds in ((10, 1800.0), (15, 2700.0)):
        journal.write_metrics({"step": step, "seconds/total": seconds, "tokens": 1})
        (trial,) = collect(life.directory, life.spec, life.trials()).trials
        assert (trial.usage.seconds, trial.usage.gpu_hours) == (seconds, seconds / 3600)


def test_what_a_trial_took_since_its_newest_evaluation_counts_when_it_ends_early(begin):
    life = begin(trials=1, resources={"gpus_per_worker": 1})
    bridge = life.bridge()
    journal = Journal(bridge.ask().directory, writes=True)
    bridge.report(0, Report(5, 0.3, seconds=900.0, tokens=500))
    journal.write_metrics({"step": 9, "seconds/total": 1800.0, "tokens": 800})
    bridge.stop(0)
    bridge.finish(0)
    assert life.trials()[0].user_attrs["usage"] == {"seconds": 1800.0, "gpu_hours": 0.5, "tokens": 800}
    assert bridge.account.gpu_hours == 0.5


def test_a_decision_that_the_driver_died_before_is_taken_when_the_step_is_told_again(begin, monkeypatch):
    life = begin(pruner={"name": "median", "n_startup_trials": 1})
    bridge = life.bridge()
    bridge.ask()
    tell(bridge, 0)
    bridge.finish(0)
    bridge.ask()
    with monkeypatch.context() as dying:
        dying.setattr(Peers, "prunes", lambda *_: False)
        assert not bridge.report(1, Report(5, 0.1))  # as if it had died before asking the pruner
    bridge = life.bridge()
    bridge.ask()
    assert bridge.report(1, Report(5, 0.1))
    assert life.trials()[1].intermediate_values == {5: 0.1}


def test_a_trial_of_which_only_some_values_were_sampled_gets_the_others(begin):
    life = begin(space=SPACE)
    with driving(life.spec, life.directory) as study:
        first, second = SPACE
        sampled = study.ask({first: life.spec.space[first].optuna()}).params
    again = life.bridge().ask()
    assert again.number == 0
    assert list(again.params) == [first, second]
    assert again.params[first] == sampled[first]


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "grid", "brute-force", "nsga-ii"])
def test_what_is_sampled_does_not_depend_on_how_often_the_driver_died(begin, sampler):
    space = SPACE
    if sampler in ("grid", "brute-force"):
        space = {key: {"type": "choice", "values": [8, 32, 64]} for key in ("fipo.half_life",)}
        space["fipo.filtering"] = {"type": "choice", "values": [True, False]}
    seen = []
    for name, deaths in (("steady", False), ("mortal", True)):
        life = begin(name, sampler={"name": sampler}, space=space, trials=4)
        bridge = life.bridge()
        for number in range(4):
            assert bridge.ask().number == number
            tell(bridge, number, until=10)
            if deaths:
                bridge = life.bridge()
                bridge.ask()
            tell(bridge, number, after=0)
            bridge.finish(number)
        seen.append([trial.params for trial in life.trials()])
    assert seen[0] == seen[1]
    assert len({tuple(each.items()) for each in seen[0]}) == 4  # a sampler whose seed starts over repeats itself


def test_an_ending_study_leaves_its_trials_to_be_resumed(begin):
    life = begin(trials=3)
    bridge = life.bridge()
    bridge.ask()
    bridge.ask()
    tell(bridge, 0, until=5)
    bridge.end("stopped by hand")
    assert (life.directory / "trials/0000/stop").exists()
    assert bridge.report(1, Report(0, 0.2))
    for number in (0, 1):
        bridge.finish(number)
    assert bridge.ask() is None
    assert [trial.state.name for trial in life.trials()] == ["RUNNING", "RUNNING"]
    bridge = life.bridge()
    assert not bridge.done
    assert [bridge.ask().number for _ in range(3)] == [0, 1, 2]
    assert not (life.directory / "trials/0000/stop").exists()


def test_a_study_is_done_when_nothing_runs_or_waits(begin):
    life = begin(trials=1)
    bridge = life.bridge()
    assert not bridge.done
    bridge.ask()
    tell(bridge, 0)
    bridge.finish(0)
    assert bridge.done
    assert life.bridge().done
