"""`--set key=value` has the last word, and says so where it changes what a control is."""

from __future__ import annotations

import pytest

from study.check import load_spec
from trainer.errors import UserError

RATE = "optimizer.learning_rate"
DAPO = {"label": "DAPO", "values": {RATE: 1e-4, "fipo.epsilon_f_low": 0}}
SPACE = {
    RATE: {"type": "log-uniform", "low": 1e-5, "high": 1e-2},
    "fipo.half_life": {"type": "uniform", "low": 1, "high": 9},
    "fipo.epsilon_f_low": {"type": "uniform", "low": 0, "high": 0.5},
}


@pytest.fixture
def path(spec_file):
    return spec_file(space=SPACE, enqueue=[DAPO])


def test_a_spec_key_is_replaced(path):
    spec = load_spec(path, sets=["trials=2", "sampler={name: tpe, seed: 5}", "seed=9"])
    assert (spec.trials, spec.seed, spec.sampler.name, spec.sampler.options["seed"]) == (2, 9, "tpe", 5)


def test_a_trainer_key_is_fixed_and_no_longer_sampled(path):
    spec = load_spec(path, sets=[f"{RATE}=3e-4", "steps=7", "trainer.seed=4"])
    assert RATE not in spec.space
    assert spec.trainer["optimizer"]["learning_rate"] == 3e-4
    assert (spec.trainer["steps"], spec.trainer["seed"], spec.seed) == (7, 4, 0)


def test_one_bound_of_a_distribution_is_moved(path):
    spec = load_spec(path, sets=["space.fipo.half_life.low=2", f"space.{RATE}.high=1e-3"])
    assert (spec.space["fipo.half_life"].low, spec.space["fipo.half_life"].high) == (2, 9)
    assert (spec.space[RATE].low, spec.space[RATE].high) == (1e-5, 1e-3)
    with pytest.raises(UserError, match=r"space\.fipo\.half_life\.lo"):
        load_spec(path, sets=["space.fipo.half_life.lo=2"])


def test_gamma_takes_the_place_of_half_life(path):
    spec = load_spec(path, sets=["fipo.gamma=0.9"])
    assert "fipo.half_life" not in spec.space
    assert spec.config({RATE: 1e-4, "fipo.epsilon_f_low": 0}).fipo.discount == 0.9


def test_a_control_that_loses_a_value_says_so(path):
    (control,) = load_spec(path, sets=["fipo.epsilon_f_low=0.1"]).enqueue
    assert control.label == "DAPO with fipo.epsilon_f_low=0.1"
    assert set(control.values) == {RATE}


def test_a_control_that_has_the_value_anyway_keeps_its_label(path):
    (control,) = load_spec(path, sets=["fipo.epsilon_f_low=0"]).enqueue
    assert control.label == "DAPO"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("trials", "write key=value"),
        ("=3", "write key=value"),
        ("fipo.gama=0.9", "did you mean fipo.gamma?"),
        ("workers=4", "did you mean resources.workers? --set resources.workers=4"),
        ("trial=3", "did you mean trials? --set trials=3"),
        ("fipo.half_life=-1", "fipo.half_life = -1"),
        ("trials=[1", "not a YAML value"),
    ],
)
def test_a_bad_assignment_is_refused(path, assignment, words):
    with pytest.raises(UserError) as refused:
        load_spec(path, sets=[assignment])
    assert words in str(refused.value)
