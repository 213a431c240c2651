"""Every sampler and pruner of Optuna by its name, at work over a real storage; its options are Optuna's own."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from typing import Any

import optuna
import pytest

import benchmarks.pruning
from study import attributes, plugins, pruners, samplers
from study.assignment import Report
from study.check import load_spec
from study.results import read_study
from study.spec import Plugin
from trainer.errors import UserError

LEFT_OUT = {
    "PartialFixedSampler": "what is fixed stands under trainer",
    "NSGAIIISampler": "its reference points are for three objectives and more",
}
NEITHER = {"BaseSampler", "BaseGASampler", "BasePruner"}
NUMBERS = {
    "optimizer.learning_rate": {"type": "log-uniform", "low": 1e-5, "high": 1e-2},
    "fipo.half_life": {"type": "uniform", "low": 2, "high": 256},
}
FINITE = {
    "fipo.half_life": {"type": "choice", "values": [8, 32, 64]},
    "fipo.filtering": {"type": "choice", "values": [True, False]},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 1}, "gp": {"n_startup_trials": 1}, "cma-es": {"n_startup_trials": 1},
    "nsga-ii": {"population_size": 2},
    "percentile": {"percentile": 25, "n_startup_trials": 1}, "median": {"n_startup_trials": 1},
    "hyperband": {"min_resource": 5, "max_resource": 20, "reduction_factor": 2}, "threshold": {"lower": 0.15},
    "successive-halving": {"min_resource": 5, "reduction_factor": 2}, "wilcoxon": {},
    "patient": {"patience": 1, "wrapped_pruner": {"name": "median", "n_startup_trials": 1}},
}  # fmt: skip


def run(bridge, values: list[float]) -> None:
    number = bridge.ask().number
    for index, value in enumerate(values):
        if bridge.report(number, Report(5 * index, value, length=20.0)):
            break
    bridge.finish(number)


@pytest.mark.parametrize(
    ("module", "names", "base"),
    [
        (optuna.samplers, samplers.NAMES, optuna.samplers.BaseSampler),
        (optuna.pruners, pruners.NAMES, optuna.pruners.BasePruner),
    ],
)
def test_all_that_optuna_has_are_known(module, names, base):
    found = (getattr(module, each) for each in module.__all__)
    classes = {each.__name__ for each in found if inspect.isclass(each) and issubclass(each, base)}
    assert classes - NEITHER - LEFT_OUT.keys() == set(names.values())


@pytest.mark.parametrize("name", samplers.NAMES)
def test_a_sampler_is_optunas_and_samples_after_it_has_seen_results(make_bridge, name):
    space = FINITE if name in ("grid", "brute-force") else NUMBERS
    bridge = make_bridge(sampler={"name": name} | OPTIONS.get(name, {}), space=space, pruner={"name": "none"})
    for end in (0.3, 0.6, 0.5, 0.4):
        run(bridge, [0.2, 0.2, 0.2, 0.2, end])
        assert isinstance(bridge.study.sampler, getattr(optuna.samplers, samplers.NAMES[name]))
    trials = read_study(bridge.directory).trials
    assert [trial.state for trial in trials] == ["COMPLETE"] * 4
    assert len({tuple(trial.params.items()) for trial in trials}) == 4


@pytest.mark.parametrize("name", pruners.NAMES)
def test_a_pruner_is_optunas_and_stops_bad_trials_but_not_the_best(make_bridge, name):
    bridge = make_bridge(pruner={"name": name} | OPTIONS.get(name, {}), trials=7)
    assert isinstance(bridge.study.pruner, getattr(optuna.pruners, pruners.NAMES[name]))
    run(bridge, [0.2, 0.5, 0.6, 0.7, 0.8])
    for worse in range(6):  # each worse than the last, for hyperband's brackets compare their own only
        run(bridge, [each - 0.01 * worse for each in (0.19, 0.14, 0.13, 0.12, 0.11)])
    best, *others = read_study(bridge.directory).trials
    assert best.state == "COMPLETE"
    assert ("PRUNED" in {trial.state for trial in others}) == (name != "none")


def test_accuracy_against_length_keeps_both_numbers_of_every_trial(make_bridge):
    sampler = {"name": "nsga-ii"} | OPTIONS["nsga-ii"]
    bridge = make_bridge(against="length", sampler=sampler, space=NUMBERS, pruner={"name": "none"})
    for _ in range(4):  # two generations
        run(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    study = optuna.load_study(study_name="unit", storage=f"sqlite:///{bridge.directory / 'optuna.db'}")
    assert [each.name for each in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [each.values for each in study.trials] == [[0.6, 20.0]] * 4
    assert study.trials[0].intermediate_values == {0: 0.2, 5: 0.3, 10: 0.4, 15: 0.5, 20: 0.6}


@pytest.mark.parametrize("kind", [samplers, pruners])
def test_an_unknown_option_is_answered_with_all_that_the_class_takes(kind):
    for name in samplers.NAMES if kind is samplers else (*pruners.NAMES, *pruners.OWN):
        cls = samplers._optuna_class(name) if kind is samplers else pruners.pruner_class(name)
        arguments = (name, {"no_such": 1} | OPTIONS.get(name, {}))
        with pytest.raises(UserError, match=rf"no_such is not an option of {name}") as refused:
            kind.complete(*arguments, 0) if kind is samplers else kind.complete(*arguments)
        for option in plugins.known_options(cls):
            assert option in str(refused.value)


class FewestSolved(optuna.pruners.BasePruner):
    """A pruner as a newcomer would write it.

    Args:
        fewest: problems that a trial must have solved at least once.
    """

    def __init__(self, *, fewest: int = 3) -> None:
        self._fewest = fewest

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        first, record = (trial.user_attrs[attributes.solved(step)] for step in (0, max(trial.intermediate_values)))
        return record != first and sum(count > 0 for count in record["solved"]) < self._fewest


def test_another_pruner_of_our_own_takes_its_lines_in_one_file(make_bridge, spec_file, monkeypatch):
    """As CONTRIBUTING.md says: checked, also wrapped, at work in a study, in the docs and in the benchmark."""
    monkeypatch.setitem(pruners.OWN, "fewest-solved", (__name__, "FewestSolved"))
    monkeypatch.setattr(pruners, "SEE_PROBLEMS", (*pruners.SEE_PROBLEMS, "fewest-solved"))
    own = {"name": "fewest-solved", "fewest": 2}
    for pruner in (own, {"name": "patient", "patience": 0, "wrapped_pruner": own}):
        with pytest.raises(UserError, match="pruner fewest-solved compares avg@k"):
            load_spec(spec_file(pruner=pruner, metric="cons@k"))
        assert load_spec(spec_file(pruner=pruner)).pruner.name == pruner["name"]
    bridge = make_bridge(pruner=own)
    for solved, stops in (([1, 1, 0], False), ([3, 0, 0], True)):
        number = bridge.ask().number
        assert not bridge.report(number, Report(0, 0.3, samples=3, solved=[1, 1, 1]))
        assert bridge.report(number, Report(5, 0.3, samples=3, solved=solved)) is stops
    page = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "study_file.py"))["page"]()
    assert "| `fewest` | `3` | problems that a trial must have solved at least once. |" in page
    assert re.search(r"Optuna's but for [^.]*\(`study/aime_pruner\.py`\).*, `fewest-solved` \(", page)
    assert benchmarks.pruning.pruners(20, 5)["fewest-solved"] == Plugin(name="fewest-solved")
