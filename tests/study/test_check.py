"""Every mistake in a study spec is found before anything starts, in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.check import load_spec, load_with_files
from study.mistakes import SpecRefused
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
        ({"metric": "avg@32"}, ["metric = 'avg@32'", "write avg@k; k is trainer.evaluation.sets[0].samples"]),
        (
            {"metric": "avg@8", "trainer": {"evaluation": {"sets": [{"name": "s", "path": "x", "samples": 4}]}}},
            ["write avg@k", "sets[0].samples, here 4; set that to 8 where 8 is meant"],
        ),
        ({"metric": "pass@8", "trainer": None}, ["write pass@k; k is trainer.evaluation.sets[0].samples, here 8"]),
        (
            {"metric": "avg@9", "trainer": {"evaluation": {"sets": 3}}},
            ["write avg@k; k is trainer.evaluation.sets[0].samples (and"],
        ),
        ({"budget": {"hours": "2h"}}, ["budget.hours = '2h'", "write the number alone, 2"]),
        ({"budget": {"accuracy": 60}}, ["budget.accuracy = 60", "write a fraction, 0.6 for 60 %"]),
        ({"trainer": {"fipo": {"clip_low": "20%"}}}, ["fipo.clip_low = '20%'", "write the number alone, 0.2"]),
        ({"trials": "20k"}, ["trials = '20k'", "write the number alone, 20000"]),
        ({"space": {"optimizer.lr": UNIT}}, ["did you mean optimizer.learning_rate?"]),
        ({"space": {"fipo.eps": UNIT}}, ["did you mean fipo.epsilon_f_low and fipo.epsilon_f_high?"]),
        ({"trainer": {"fipo": {"tau": 8}}}, ["fipo.tau", "did you mean half_life?"]),
        ({"name": "../x"}, ["name = '../x'"]),
        ({"space": {}}, ["space is empty; give at least one"]),
        ({"trainer": 5}, ["trainer = 5: a mapping belongs here"]),
        ({"budget": 5}, ["budget = 5: a mapping belongs here; its keys are gpu_hours, hours, accuracy"]),
        ({"trainer": {"model": "gpt2"}}, ["trainer: model = gpt2: a mapping belongs here"]),
        ({"space": {"fipo.gamma": {"type": "choice", "values": 3}}}, ["space.fipo.gamma.values = 3: a list", "[3]"]),
        ({"budget": {5: 3}}, ["budget.5 is no word, as YAML reads it; write it in quotes"]),
        ({"space": {"fipo.gama": UNIT}}, ["fipo.gama", "did you mean fipo.gamma?"]),
        ({"space": {"gamma": UNIT}}, ["gamma", "did you mean fipo.gamma?"]),
        ({"space": {"fipo": UNIT}}, ["fipo is a group", "fipo.gamma"]),
        ({"space": {"fipo.gamma": UNIT, "fipo.half_life": UNIT}}, ["same quantity", "keep one"]),
        ({"space": {"fipo.gamma": UNIT}, "trainer": {"fipo": {"half_life": 8}}}, ["half_life = 8", "keep one"]),
        ({"space": {"fipo.epsilon_f_low": UNIT | {"high": 1.5}}}, ["epsilon_f_low = 1.5", "less than or equal to 1"]),
        ({"space": {"fipo.gamma": UNIT | {"low": 0.5}}}, ["space.fipo.gamma", "low = 0.5", "high = 0.5"]),
        ({"space": {"fipo.gamma": {"type": "uniform", "low": 0}}}, ["space.fipo.gamma.high is missing"]),
        ({"replicas": {"seeds": 2, "tops": 2}}, ["replicas.tops", "known here: seeds, top", "did you mean top?"]),
        ({"space": {"fipo.gamma": UNIT | {"step": 1}}}, ["space.fipo.gamma.step", "known here: high, low, type"]),
        ({"space": {"fipo.gamma": UNIT | {"type": "normal"}}}, ["'normal'", "'log-uniform'"]),
        ({"space": {"fipo.half_life": UNIT | {"type": "log-uniform"}}}, ["half_life.low = 0", "greater than 0"]),
        (
            {"space": {"rollout.group_size": UNIT | {"low": 2, "high": 8}}},
            ["rollout.group_size", "set the type to int"],
        ),
        ({"space": {"checkpoint.every": UNIT | {"low": 2, "high": 8}}}, ["checkpoint.every", "set the type to int"]),
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
        ({"sampler": {"name": "tpee"}}, ["sampler.name = 'tpee'", "allowed: tpe, random", "did you mean tpe?"]),
        ({"resources": {"gpus_per_worker": 1.5}}, ["resources.gpus_per_worker: 1.5 is refused", "a whole number"]),
        ({"sampler": "x"}, ["sampler.name = 'x' is not known", "choose one"]),
        ({"pruner": "medain"}, ["pruner.name = 'medain' is not known", "did you mean median?"]),
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
        ({"steps": 5}, ["steps is a key of the trainer; write trainer: {steps: 5}"]),
        ({"fipo.gamma": 0.9}, ["write trainer: {fipo: {gamma: 0.9}}"]),
        ({"trainer": {"fipo.gamma": 0.9}}, ["fipo.gamma = 0.9 has dots", "write fipo: {gamma: 0.9}"]),
        (
            {"trainer": {"lr": 0.1}},
            ["lr = 0.1 is no key of", "did you mean optimizer: {learning_rate: 0.1}?"],
        ),
        ({"trainer": {"temperature": 0.8}}, ["rollout: {temperature: 0.8} or evaluation: {temperature: 0.8}?"]),
        ({"seeds": 4}, ["seeds = 4 is no key here; write replicas: {seeds: 4} beside space"]),
        ({"trainer": {"seeds": [0, 1]}}, ["trainer: seeds = [0, 1] is no key here; write replicas: {seeds: 3}"]),
        ({"pruner": {"name": "ASHA"}}, ["pruner.name = 'ASHA' is not known", "did you mean successive-halving?"]),
        ({"pruner": {"name": "sobol"}}, ["pruner.name = 'sobol' is not known", "choose one"]),
        (
            {"trainer": {"fipo": {"gamma": UNIT}}},
            ["fipo.gamma = {type: uniform, ", "move it to space"],
        ),
        (
            {"space": {"fipo": {"gamma": UNIT}}},
            ["space.fipo is nested", "fipo.gamma: {type: uniform, "],
        ),
        ({"space": {"fipo.gamma": [0.9, 0.99]}}, ["{type: choice, values: [0.9, 0.99]}", "low: 0.9, high: 0.99}"]),
        (
            {"space": {"fipo.filtering": [True, False]}},
            ["{type: choice, values: [true, false]} to choose"],
        ),
        ({"space": {"rollout.group_size": [4, 8]}}, ["or {type: int, low: 4, high: 8} for what lies between"]),
        ({"space": {"checkpoint.every": [2, 8]}}, ["or {type: int, low: 2, high: 8} for what lies between"]),
        ({"space": {"rollout.group_size": 4}}, ["a distribution such as {type: int, low: ..., high: ...}"]),
        ({"space": {"rollout.group_size": {"low": 4, "high": 8}}}, ["type is missing; add type: int"]),
        ({"space": {"fipo.gamma": 0.9}}, ["is one value", "write trainer: {fipo: {gamma: 0.9}}"]),
        (
            {"space": {"fipo.half_life": UNIT | {"type": "loguniform"}}},
            ["did you mean log-uniform? write type:"],
        ),
        ({"space": {"fipo.half_life": UNIT | {"type": "float"}}}, ["did you mean uniform?"]),
        ({"space": {"fipo.gamma": {"low": 0, "high": 1}}}, ["space.fipo.gamma.type is missing", "log-uniform"]),
        ({"space": {"fipo.gamma": {"values": [0.5]}}}, ["add type: choice"]),
        (
            {"space": {"fipo.gamma": {"type": "choice", "values": [0.5, [0.9]]}}},
            ["space.fipo.gamma.values.1 = [0.9]: allowed is one number"],
        ),
        (
            {"enqueue": [{"label": "x", "values": {"fipo": {"gamma": 0.9}}}]},
            ["enqueue.0.values.fipo = {gamma: 0.9} is nested; write its keys with dots, fipo.gamma: 0.9"],
        ),
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


def test_true_and_false_have_nothing_between_them(spec_file):
    with pytest.raises(UserError, match=r"values: \[false, true\]} to choose among these$"):
        load_spec(spec_file(space={"fipo.filtering": [False, True]}))


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


def test_every_mistake_is_told_once_and_without_what_only_follows_from_it(spec_file):
    path = spec_file(
        trials=0,
        pruner="aimee",
        space={"fipo.gamma": [0.9, 0.99], "fipo.nothing": UNIT, "fipo.clip_low": {"type": "choice", "values": [[1]]}},
        enqueue=[{"label": "DAPO", "values": {"fipo.gama": 1}}],
        trainer={"fipo.gamma": 0.9, "steps": -1},
    )
    with pytest.raises(SpecRefused) as refused:
        load_spec(path)
    told = ["trials = 0", "space.fipo.gamma = [", "values.0 = [1]", "fipo.nothing", "fipo.gama", "trainer: fipo.gamma",
            "trainer: steps = -1", "pruner.name = 'aimee'"]  # fmt: skip
    lines = refused.value.lines
    assert len(lines) == len(told)
    for word in told:
        assert len([line for line in lines if word in line]) == 1, word
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in lines)
    assert str(refused.value) == f"{lines[0]} (and 7 more; fipo validate tells all)"


def test_mistakes_are_told_stage_by_stage(spec_file):
    def told(**changes):
        with pytest.raises(SpecRefused) as refused:
            load_with_files(spec_file(**changes))
        return [line.split(": ", 1)[1] for line in refused.value.lines]

    together = {"against": "length", "trainer": {"data": {"train": "nowhere.jsonl"}}}
    ends = {"space": {"fipo.epsilon_f_low": UNIT | {"high": 1.5}}}
    (form,) = told(**together, **ends, trials=0)
    (values,) = told(**together, **ends)
    pruner, file = told(**together)
    assert form.startswith("trials = 0") and values.startswith("space: fipo.epsilon_f_low = 1.5")
    assert "two objectives" in pruner and "nowhere.jsonl" in file


def test_each_swept_key_that_the_trainer_refuses_is_told(spec_file):
    path = spec_file(
        space={"fipo.epsilon_f_low": UNIT | {"high": 1.5}, "fipo.clip_low": UNIT | {"high": 2}},
        sampler={"name": "tpe"},
    )
    with pytest.raises(SpecRefused) as refused:
        load_spec(path)
    assert {line.split(" = ")[0] for line in refused.value.lines} == {
        f"{path}: space: fipo.{key}" for key in ("epsilon_f_low", "clip_low")
    }


def test_a_seed_is_repeated_and_not_searched_for(spec_file):
    path = spec_file(space={"seed": {"type": "grid", "values": [1, 2]}}, sampler={"name": "grid"})
    with pytest.raises(SpecRefused) as refused:
        load_spec(path)
    (line,) = refused.value.lines
    assert line.startswith(f"{path}: space.seed: a seed is repeated") and "{seeds: 4, top: null}" in line


def test_settings_that_do_not_go_together_are_told_together(spec_file):
    path = spec_file(
        budget={"gpu_hours": 5},
        against="length",
        enqueue=[{"label": "a", "values": {"optimizer.learning_rate": 1.0, "fipo.clip_low": 9}}] * 2,
    )
    with pytest.raises(SpecRefused) as refused:
        load_spec(path)
    told = ["gpus_per_worker is 0", "two objectives", "labels a, a", "fipo.clip_low = 9"]
    assert len(refused.value.lines) == len(told)
    for word in told:
        assert any(word in line for line in refused.value.lines)


def test_files_that_are_not_there_are_told_with_their_keys_and_no_hub_is_asked(spec_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = '{"problem": "1+1=", "answer": "2"}\n'
    (tmp_path / "there.jsonl").write_text(problem)
    (tmp_path / "half.jsonl").write_text('{"problem": "1+1="}\n')
    sets = [{"name": name, "path": path} for name, path in (
        ("a", "there.jsonl"), ("b", "half.jsonl"), ("c", "owner/name"), ("aime", "embedded:slect"))]  # fmt: skip
    path = spec_file(
        space={"data.train": {"type": "choice", "values": ["there.jsonl", "data/missing.jsonl"]}},
        trainer={"evaluation": {"sets": sets}, "model": {"path": "./nowhere"}},
    )
    load_spec(path)
    with pytest.raises(SpecRefused) as refused:
        load_with_files(path)
    train, half, embedded, model = refused.value.lines
    assert "space.data.train = 'data/missing.jsonl': no such file" in train and str(tmp_path) in train
    assert "trainer.evaluation.sets[1].path = 'half.jsonl' line 1: no answer" in half
    assert "trainer.evaluation.sets[3].path = 'embedded:slect'" in embedded
    assert "trainer.model.path = './nowhere': no config.json there" in model


@pytest.mark.parametrize(("sampler", "refused"), [("grid", False), ("brute-force", True)])
def test_only_under_the_grid_sampler_may_a_control_lie_beside_its_list(spec_file, sampler, refused):
    """The other goes through what Optuna knows of a key, and would try the control's value in each row."""
    space = {"fipo.epsilon_f_high": {"type": "choice", "values": [0.1, 0.4]}}
    enqueue = [{"label": "DAPO", "values": {"fipo.epsilon_f_high": 0}}]
    path = spec_file(space=space, enqueue=enqueue, sampler={"name": sampler}, pruner={"name": "none"}, trials=2)
    if not refused:
        load_spec(path)
        return
    with pytest.raises(UserError, match=r"epsilon_f_high = 0.* lies outside space"):
        load_spec(path)


def test_a_file_that_only_a_control_names_is_looked_for_too(spec_file):
    enqueue = [{"label": "other data", "values": {"data.train": "missing.jsonl"}}]
    path = spec_file(enqueue=enqueue, sampler={"name": "random"})
    with pytest.raises(UserError, match=r"enqueue other data: data.train = 'missing.jsonl': no such file"):
        load_with_files(path)
    space = {"data.train": {"type": "choice", "values": ["embedded:train", "gone.jsonl"]}}  # which is named first
    enqueue = [{"label": "same", "values": {"data.train": "gone.jsonl"}}]
    with pytest.raises(UserError, match=r"space.data.train = 'gone.jsonl': no such file"):
        load_with_files(spec_file(space=space, enqueue=enqueue, sampler={"name": "random"}))


def test_a_run_is_no_model_and_how_it_becomes_one_is_said(spec_file, tmp_path):
    run = tmp_path / "runs" / "best"
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(SpecRefused, match=f"that of a run: python -m trainer.export {run}/config.yaml --run {run} --"):
        load_with_files(spec_file(trainer={"model": {"path": str(run)}}))


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
    assert spec.pruner.options.keys() >= {"n_startup_trials", "n_warmup_steps", "patience", "margin", "level"}
    assert "learning_rate" not in spec.trainer["optimizer"]  # swept: it has no fixed value


def test_the_key_on_needs_no_quotes(spec_file):
    path = spec_file()
    path.write_text(path.read_text() + "notify: {webhook: http://127.0.0.1:9, on: [best]}\n")
    assert load_spec(path).notify.on == ("best",)


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
