"""What a study file says in vain is told, and what it says with effect is not."""

from __future__ import annotations

import optuna
import pytest

from study.check import load_spec
from study.pruners import make_pruner
from study.settings import hardly_meant, idle_pruner
from trainer.errors import UserError

AIME = {"name": "aime", "n_startup_trials": 4, "patience": 2}
EVERY_5 = {"steps": 20, "evaluation": {"sets": [{"name": "s", "path": "embedded:select", "every": 5}]}}


@pytest.mark.parametrize(
    ("pruner", "changes", "words"),
    [
        (AIME, {"trials": 4}, "n_startup_trials = 4: so many trials have to complete first, and trials = 4"),
        (AIME | {"n_warmup_steps": 16}, {}, "n_warmup_steps = 16: the last evaluation before the end is after step 15"),
        (AIME | {"patience": 4}, {}, "patience = 4: only 3 evaluations lie between"),
        (AIME, {"evaluate": 10}, "patience = 2: only 1 evaluation lies between"),
        ({"name": "median", "n_startup_trials": 9}, {"trials": 9}, "n_startup_trials = 9"),
        ({"name": "median", "n_startup_trials": 1, "n_min_trials": 9}, {}, "n_min_trials = 9"),
        ({"name": "successive-halving", "min_resource": 20}, {}, "min_resource = 20"),
        (
            {"name": "patient", "patience": 1, "wrapped_pruner": {"name": "median", "n_startup_trials": 30}},
            {},
            "pruner patient can never stop a trial: n_startup_trials = 30",
        ),
        ({"name": "patient", "patience": 3, "wrapped_pruner": {"name": "median"}}, {}, "patience = 3"),
        ("threshold", {"evaluate": None}, ".every = null evaluates nothing between"),
        ("threshold", {"evaluate": 20}, ".every = 20 evaluates nothing between"),
    ],
)  # fmt: skip
def test_a_pruner_that_can_never_stop_a_trial_is_told_with_the_reason(make_spec, pruner, changes, words):
    pruner = {"name": "threshold", "lower": 0.1} if pruner == "threshold" else pruner
    sets = [{"name": "s", "path": "embedded:select", "every": changes.pop("evaluate", 5)}]
    spec = make_spec(**{"trials": 8} | changes, pruner=pruner, trainer={"steps": 20, "evaluation": {"sets": sets}})
    (line,) = idle_pruner(spec)
    assert words in line


@pytest.mark.parametrize(
    "pruner",
    [
        {"name": "none"},
        AIME | {"n_warmup_steps": 15, "patience": 3},
        {"name": "median", "n_startup_trials": 7, "n_warmup_steps": 15},
        {"name": "successive-halving", "min_resource": 15},
        {"name": "hyperband"},
        {"name": "patient", "patience": 2, "wrapped_pruner": {"name": "median"}},
    ],
)
def test_a_pruner_that_can_is_not_told_of(make_spec, pruner):
    assert idle_pruner(make_spec(trials=8, pruner=pruner, trainer=EVERY_5)) == []


@pytest.mark.parametrize(
    ("name", "options", "stops"),
    [
        ("median", {"n_startup_trials": 7, "n_warmup_steps": 15}, True),
        ("median", {"n_startup_trials": 7, "n_warmup_steps": 16}, False),
        ("median", {"n_startup_trials": 8}, False),
        ("successive-halving", {"min_resource": 15}, True),
        ("successive-halving", {"min_resource": 16}, False),
        ("patient", {"patience": 2, "wrapped_pruner": {"name": "median"}}, True),
        ("patient", {"patience": 3, "wrapped_pruner": {"name": "median"}}, False),
    ],
)
def test_it_is_told_just_where_optuna_would_keep_the_worst_of_trials(make_spec, name, options, stops):
    """Seven perfect trials, and an eighth that falls from bad to worse before its last evaluation."""
    spec = make_spec(trials=8, pruner={"name": name, **options}, trainer=EVERY_5)
    assert (idle_pruner(spec) == []) is stops
    study = optuna.create_study(direction="maximize", pruner=make_pruner(name, spec.pruner.options))
    for values in [[0.4, 1.0, 1.0, 1.0]] * 7 + [[0.4, 0.3, 0.2, 0.1]]:
        trial, stopped = study.ask(), False
        for step, value in zip((0, 5, 10, 15), values, strict=True):
            trial.report(value, step)
            stopped = bool(trial.should_prune()) or stopped
        study.tell(trial, values[-1])
    assert stopped is stops


def test_a_warm_up_of_the_whole_run_and_a_pruner_idle_for_two_reasons_are_a_line_each(make_spec):
    pruner = {"name": "median", "n_startup_trials": 9, "n_warmup_steps": 19}
    spec = make_spec(trials=8, pruner=pruner, trainer=EVERY_5 | {"optimizer": {"warmup_steps": 20}})
    idle, warmup = hardly_meant(spec)
    assert "n_startup_trials = 9" in idle and "n_warmup_steps = 19" in idle
    assert "warmup_steps = 20" in warmup and "all 20 steps" in warmup


def test_who_could_not_be_told_is_said_before_it_matters(make_spec, monkeypatch):
    monkeypatch.delenv("HOOK", raising=False)
    monkeypatch.setenv("SET", "x")
    silent = {"command": ["no-such-program"], "webhook": "https://example.org/${HOOK}/$SET"}
    command, webhook = hardly_meant(make_spec(pruner={"name": "none"}, notify=silent))
    assert command == "notify.command[0] = 'no-such-program': no such program here; give its path, or install it"
    assert webhook == "notify.webhook: HOOK is not set in the environment; export it first"
    heard = {"command": ["cat"], "webhook": "https://example.org/$SET"}
    assert hardly_meant(make_spec(pruner={"name": "none"}, notify=heard)) == []


@pytest.mark.parametrize(("trials", "controls", "told"), [(6, 0, None), (7, 1, None), (6, 1, "5 of"), (4, 0, "4 of")])
def test_a_part_of_a_grid_is_told(make_spec, trials, controls, told):
    space = {
        "fipo.half_life": {"type": "grid", "values": [8, 64]},
        "fipo.epsilon_f_high": {"type": "grid", "values": [0, 0.2, 1]},
    }
    values = {"fipo.half_life": 8, "fipo.epsilon_f_high": 0}
    spec = make_spec(
        trials=trials, space=space, sampler={"name": "grid"}, pruner={"name": "none"},
        enqueue=[{"label": "control", "values": values}][:controls],
    )  # fmt: skip
    beside = " beside 1 control; 7 try" if controls else "; 6 try"
    line = f"trials = {trials}: {told} the grid's 6 points{beside} them all"
    assert hardly_meant(spec) == ([line] if told else [])


FIPO_KEYS = {
    "fipo.half_life": {"type": "log-uniform", "low": 4, "high": 64},
    "fipo.epsilon_f_high": {"type": "uniform", "low": 0, "high": 0.5},
    "fipo.clip_high": {"type": "uniform", "low": 0.2, "high": 0.6},
}
NO_WEIGHTS = {"fipo.epsilon_f_high": 0, "fipo.clip_high": 0.28}


@pytest.mark.parametrize(
    ("label", "values", "low", "lines"),
    [
        ("DAPO", NO_WEIGHTS, 0, []),  # where all weights are 1 the half-life decides nothing
        ("FIPO", {"fipo.half_life": 32, "fipo.epsilon_f_high": 0.2, "fipo.clip_high": 0.28}, 0, []),
        ("FIPO down", NO_WEIGHTS | {"fipo.half_life": 32}, 0.2, []),
        (
            "DAPO", {"fipo.epsilon_f_high": 0}, 0,
            ["enqueue DAPO: leaves out fipo.clip_high, so the sampler chooses it; give it a value"],
        ),
        (
            "FIPO", {"fipo.epsilon_f_high": 0.2}, 0,
            ["enqueue FIPO: leaves out fipo.half_life, fipo.clip_high, so the sampler chooses them; give them a value"],
        ),
        (
            "our dapo", NO_WEIGHTS | {"fipo.half_life": 32}, 0.2,
            [
                "enqueue our dapo: has fipo.epsilon_f_low = 0.2 and fipo.epsilon_f_high = 0, so it is FIPO, with"
                " influence weights that are not all 1; set both to 0, or give it another label"
            ],
        ),
        (
            "GRPO", {"fipo.clip_high": 0.2, "fipo.half_life": 8}, 0,
            ["enqueue GRPO: leaves out fipo.epsilon_f_high, so the sampler chooses it; give it a value"],
        ),
        ("GRPO", {"fipo.clip_high": 0.2, "fipo.epsilon_f_high": 0}, 0, []),
        (
            "GRPO", NO_WEIGHTS, 0,
            [
                "enqueue GRPO: has fipo.clip_low = 0.2 and fipo.clip_high = 0.28, which is DAPO's clip-higher; set both"
                " to one value, or give it another label"
            ],
        ),
    ],
)  # fmt: skip
def test_a_control_that_is_not_the_fixed_point_that_its_label_says_is_told(make_spec, label, values, low, lines):
    enqueue = [{"label": label, "values": values}]
    trainer = {"fipo": {"epsilon_f_low": low}}
    spec = make_spec(space=FIPO_KEYS, enqueue=enqueue, trainer=trainer, pruner={"name": "none"})
    assert hardly_meant(spec) == lines


BOUNDS = ("fipo.epsilon_f_low", "fipo.epsilon_f_high")


@pytest.mark.parametrize(
    ("choices", "low", "told"),
    [
        (([0, 0.2],), 0, "fipo.epsilon_f_high = 0"),
        (([0.1, 0.2],), 0, None),
        (([0, 0.2],), 0.2, None),  # the other bound leaves it FIPO
        (([0, 0.2], [0, 0.4]), None, "fipo.epsilon_f_low = 0 and fipo.epsilon_f_high = 0"),
    ],
)
def test_a_dapo_that_the_sampler_may_draw_over_and_over_is_told(make_spec, choices, low, told):
    swept = dict(zip(BOUNDS[-len(choices) :], choices, strict=True))
    space = {key: {"type": "choice", "values": values} for key, values in swept.items()}
    trainer = {"fipo": {} if low is None else {"epsilon_f_low": low}}
    alone = make_spec(space=space, trainer=trainer, pruner={"name": "none"}, sampler={"name": "random"}, trials=2)
    assert hardly_meant(alone) == []  # nothing else of FIPO is swept
    space |= {"fipo.half_life": {"type": "log-uniform", "low": 4, "high": 64}}
    spec = make_spec(space=space, trainer=trainer, pruner={"name": "none"}, sampler={"name": "random"})
    line = f"space: a trial with {told} is DAPO, in which fipo.half_life decides nothing; DAPO once, under enqueue,"
    assert hardly_meant(spec) == ([f"{line} is enough"] if told else [])


def test_two_controls_that_are_the_same_are_told(make_spec):
    same, half_life = NO_WEIGHTS | {"fipo.half_life": 32}, {"fipo.half_life": 8}
    named = {"one": same, "two": same, "other": same | half_life, "drawn": NO_WEIGHTS, "drawn again": NO_WEIGHTS}
    enqueue = [{"label": label, "values": values} for label, values in named.items()]
    spec = make_spec(
        space=FIPO_KEYS, enqueue=enqueue, trials=9, trainer={"fipo": {"epsilon_f_low": 0}}, pruner={"name": "none"}
    )
    assert hardly_meant(spec) == ["enqueue two: is the same as one, and both count once; change one, or remove it"]


def test_sqlite_on_the_file_system_of_a_cluster_is_warned_of(make_spec):
    cluster = {"resources": {"ray_address": "auto"}, "pruner": {"name": "none"}}
    (line,) = hardly_meant(make_spec(**cluster))
    assert line.startswith("storage = 'sqlite' is not made for the file system") and "storage: journal" in line
    assert hardly_meant(make_spec(storage="journal", **cluster)) == []


@pytest.mark.parametrize(("workers", "width", "refused"), [(4, 3, True), (4, 8, True), (4, 2, False), (1, 1, False)])
def test_an_engine_takes_whole_groups_of_a_trials_ranks(spec_file, workers, width, refused):
    trainer = {"rollout": {"vllm": {"tensor_parallel_size": width}}}
    path = spec_file(trainer=trainer, resources={"workers": workers})
    if not refused:
        load_spec(path)
        return
    with pytest.raises(UserError, match=f"tensor_parallel_size = {width}: must divide resources.workers = {workers}"):
        load_spec(path)


@pytest.mark.parametrize(
    ("trials", "sampler", "repeated"), [(6, "tpe", 1), (9, "random", 4), (5, "tpe", None), (5, "grid", None)]
)
def test_more_trials_than_a_space_has_points_repeat_some(make_spec, trials, sampler, repeated):
    space = {
        "fipo.aggregation": {"type": "choice", "values": ["token-mean", "seq-mean-token-mean"]},
        "fipo.filtering": {"type": "choice", "values": [True, False]},
    }
    enqueue = [{"label": "control", "values": {"fipo.aggregation": "token-mean", "fipo.filtering": True}}]
    spec = make_spec(trials=trials, sampler={"name": sampler}, pruner={"name": "none"}, space=space, enqueue=enqueue)
    said = [line for line in hardly_meant(spec) if "repeat another" in line]
    if repeated is None:
        assert said == []
    else:
        assert f"trials = {trials}: the space has 4 points, so {repeated} or more of them repeat another" in said[0]
        assert "set trials to 5 and sampler.name to grid" in said[0]
