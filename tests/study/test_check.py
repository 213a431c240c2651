"""Every mistake in a study spec is found before anything starts, in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.check import load_spec
from study.spec import StudySpec
from trainer.config import TrainerConfig
from trainer.errors import UserError

UNIT = {"type": "uniform", "low": 0, "high": 0.5}
SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trails": 3}, ["trails", "did you mean trials?"]),
        ({"trials": 0}, ["trials = 0", "greater than or equal to 1"]),
        ({"metric": "avg@32"}, ["metric = 'avg@32'", "avg@k"]),
        ({"name": "../x"}, ["name = '../x'"]),
        ({"space": {}}, ["space = {}"]),
        ({"space": {"fipo.gama": UNIT}}, ["fipo.gama", "did you mean fipo.gamma?"]),
        ({"space": {"gamma": UNIT}}, ["gamma", "did you mean fipo.gamma?"]),
        ({"space": {"fipo": UNIT}}, ["fipo is a group", "fipo.gamma"]),
        ({"space": {"fipo.gamma": UNIT, "fipo.half_life": UNIT}}, ["same quantity", "keep one"]),
        ({"space": {"fipo.gamma": UNIT}, "trainer": {"fipo": {"half_life": 8}}}, ["half_life = 8", "keep one"]),
        ({"space": {"fipo.epsilon_f_low": UNIT | {"high": 1.5}}}, ["epsilon_f_low = 1.5", "less than or equal to 1"]),
        ({"space": {"fipo.gamma": UNIT | {"low": 0.5}}}, ["space.fipo.gamma", "low = 0.5", "high = 0.5"]),
        ({"space": {"fipo.gamma": {"type": "uniform", "low": 0}}}, ["space.fipo.gamma.high is missing"]),
        ({"space": {"fipo.gamma": UNIT | {"step": 1}}}, ["space.fipo.gamma.step", "known here: high, low, type"]),
        ({"space": {"fipo.gamma": UNIT | {"type": "normal"}}}, ["'normal'", "'log-uniform'"]),
        ({"space": {"fipo.half_life": UNIT | {"type": "log-uniform"}}}, ["half_life.low = 0", "greater than 0"]),
        (
            {"space": {"rollout.group_size": UNIT | {"low": 2, "high": 8}}},
            ["rollout.group_size", "set the type to int"],
        ),
        (
            {"space": {"optimizer.prompts_per_minibatch": {"type": "int", "low": 1, "high": 4}}},
            ["prompts_per_minibatch = 3", "divisor of 16"],
        ),
        (
            {"space": {"optimizer.prompts_per_minibatch": {"type": "choice", "values": [8, 16]}}},
            ["prompts_per_minibatch = 16", "FutureKL is 0"],
        ),
        ({"space": {"steps": {"type": "int", "low": 1, "high": 4}}}, ["steps", "comparable", "under trainer"]),
        ({"space": {"evaluation.top_p": UNIT}}, ["evaluation.top_p", "comparable"]),
        ({"trainer": {"fipo": {"clip_lo": 0.1}}}, ["trainer: fipo.clip_lo", "did you mean clip_low?"]),
        ({"trainer": {"steps": 0}}, ["trainer: steps = 0"]),
        ({"sampler": {"name": "tpee"}}, ["sampler.name = 'tpee'", "allowed: tpe, random"]),
        ({"sampler": {"name": "tpe", "startup": 3}}, ["sampler.startup", "n_startup_trials"]),
        ({"sampler": {"name": "tpe", "group": "maybe"}}, ["sampler.group = 'maybe'", "bool"]),
        ({"pruner": {"name": "median", "warmup": 3}}, ["pruner.warmup", "n_warmup_steps"]),
        ({"pruner": {"name": "percentile"}}, ["pruner.percentile is missing"]),
        ({"pruner": {"name": "percentile", "percentile": 300}}, ["percentile=300", "change that option"]),
        ({"pruner": {"name": "hyperband", "reduction_factor": 0}}, ["hyperband", "change that option"]),
        ({"pruner": {"name": "patient", "patience": 1, "wrapped_pruner": {"name": "x"}}}, ["'x' is not known"]),
        ({"sampler": {"name": "grid"}}, ["log-uniform", "needs grid, choice or int"]),
        ({"space": {"fipo.gamma": {"type": "grid", "values": [0.5]}}}, ["set sampler.name to grid"]),
        (
            {"space": {"fipo.gamma": {"type": "grid", "values": [0.5, 0.9]}}, "sampler": {"name": "grid"}},
            ["trials = 4", "at most 2"],
        ),
        ({"resources": {"workers": 0}}, ["resources.workers = 0"]),
    ],
)
def test_a_bad_spec_is_refused_in_one_line(spec_file, changes, words):
    path = spec_file(**changes)
    with pytest.raises(UserError) as refused:
        load_spec(path)
    line = str(refused.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("control", "sampler", "words"),
    [
        ({"optimizer.learning_rate": 0.9}, "tpe", ["learning_rate = 0.9", "1e-05 to 0.01", "widen"]),
        ({"fipo.epsilon_f_low": 0}, "tpe", ["fipo.epsilon_f_low is not in space", "random"]),
        ({"fipo.epsilon_f_low": 2}, "random", ["fipo.epsilon_f_low = 2", "less than or equal to 1"]),
        ({"fipo.nothing": 2}, "random", ["fipo.nothing is not a known trainer key"]),
        ({"steps": 2}, "random", ["comparable"]),
    ],
)
def test_a_bad_control_is_refused_by_its_label(spec_file, control, sampler, words):
    path = spec_file(enqueue=[{"label": "DAPO", "values": control}], sampler={"name": sampler})
    with pytest.raises(UserError) as refused:
        load_spec(path)
    for word in ["enqueue DAPO", *words]:
        assert word in str(refused.value)


@pytest.mark.parametrize("text", ["space: [1", "- a", "\x00"])
def test_a_file_that_is_no_yaml_mapping_is_refused(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        load_spec(path)


def test_the_checked_spec_is_complete_and_reads_back_equal(spec_file, tmp_path):
    spec = load_spec(spec_file())
    (tmp_path / "study.yaml").write_text(spec.to_yaml())
    assert StudySpec.from_file(tmp_path / "study.yaml") == spec
    assert set(spec.trainer) == set(TrainerConfig.model_fields)
    assert set(spec.pruner.options) == {"n_startup_trials", "n_warmup_steps", "interval_steps", "n_min_trials"}
    assert "learning_rate" not in spec.trainer["optimizer"]  # swept: it has no fixed value


def test_choices_are_typed_as_the_trainer_reads_them(make_spec):
    spec = make_spec(space={"optimizer.learning_rate": {"type": "choice", "values": ["1e-4", "1e-3"]}})
    assert spec.space["optimizer.learning_rate"].values == (1e-4, 1e-3)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_search_space_is_valid_and_says_what_it_answers(path):
    load_spec(path)
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "?" in "".join(line for line in path.read_text().splitlines() if line.startswith("#"))


def test_the_ablations_are_the_papers_grid():
    spec = load_spec(next(path for path in SHIPPED if path.stem == "paper_ablations"))
    assert spec.space["fipo.half_life"].values == (8, 32, 128, 256)
    assert spec.space["fipo.epsilon_f_low"].values == (0, 0.2)
    assert spec.trainer["fipo"]["epsilon_f_high"] == 0.2
    assert spec.trials == 4 * 2 * 2 + len(spec.enqueue)
