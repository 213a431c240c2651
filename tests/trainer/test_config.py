"""Bad configurations are refused with one line that says what to do, and no field goes untested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
import torch
from pydantic import BaseModel

from tests.integration import test_knobs
from trainer.config import INFLUENCE, FipoConfig, TrainerConfig
from trainer.config_file import read_yaml, validate
from trainer.errors import UserError
from trainer.losses import fipo_loss_sum
from trainer.update import loss_settings


def refused(data: dict) -> str:
    with pytest.raises(UserError) as caught:
        validate(TrainerConfig, data, source="run.yaml")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_half_life_and_gamma_are_one_quantity() -> None:
    assert FipoConfig(half_life=32).discount == 2 ** (-1 / 32)
    assert FipoConfig(gamma=0.9).discount == 0.9
    assert FipoConfig().discount == 2 ** (-1 / 32)
    message = refused({"fipo": {"gamma": 0.9, "half_life": 8}})
    assert "run.yaml: fipo" in message and "gamma = 0.9" in message and "half_life = 8" in message


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ({"fipo": {"epsilon_f_low": 1.5}}, ["fipo.epsilon_f_low = 1.5", "less than or equal to 1"]),
        ({"fipo": {"gama": 0.9}}, ["fipo.gama", "did you mean gamma?", "half_life"]),
        ({"steps": 0}, ["steps = 0", "greater than or equal to 1"]),
        ({"optimizer": {"learning_rate": "fast"}}, ["optimizer.learning_rate = 'fast'", "number"]),
        ({"optimizer": {"learning_rate": float("nan")}}, ["optimizer.learning_rate = nan"]),
        ({"optimizer": {"prompts_per_minibatch": 16}}, ["prompts_per_minibatch = 16", "FutureKL is 0", "1 to 8"]),
        ({"optimizer": {"prompts_per_minibatch": 5}}, ["prompts_per_minibatch = 5", "does not divide"]),
        ({"rollout": {"vllm": {"max_model_len": 64}}}, ["max_model_len = 64 leaves no room", "response_length = 64"]),
        ({"evaluation": {"sets": []}}, ["evaluation", "sets is empty"]),
        ({"seed": 2**32}, ["seed = 4294967296", "less than 4294967296"]),
        ({"evaluation": {"seed": -1}}, ["evaluation.seed = -1", "greater than or equal to 0"]),
        ({"rank_timeout": 1e300}, ["rank_timeout = 1e+300", "less than or equal to 604800"]),
    ],
)
def test_one_line_names_file_key_value_and_mend(data: dict, parts: list[str]) -> None:
    message = refused(data)
    assert message.startswith("run.yaml: ")
    for part in parts:
        assert part in message


def test_a_config_is_frozen_and_round_trips() -> None:
    config = TrainerConfig.model_validate({"fipo": {"gamma": 0.5}})
    assert TrainerConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValueError, match="frozen"):
        config.steps = 3


def leaves(model: type[BaseModel] = TrainerConfig, prefix: str = "") -> Iterator[str]:
    """Every field that holds a value, also of the models in a list."""
    for name, field in model.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if _is_model(each)]
        if inner:
            yield from leaves(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_every_field_is_in_test_knobs() -> None:
    own = {name.removeprefix("test_knob_").replace("__", ".") for name in vars(test_knobs) if "test_knob_" in name}
    assert set(leaves()) == set(test_knobs.CHANGES_THE_NUMBERS) | set(test_knobs.CHANGES_THE_ENGINE) | own


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("steps: 8\nseed: 1\nsteps: 80\n", "steps", (3, 1)),
        ("fipo:\n  gamma: 0.9\n  'gamma': 0.8\n", "gamma", (3, 2)),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path, text, key, lines) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert f"{path}: line {lines[0]} is not valid YAML (the key {key} stands in line {lines[1]} already)" in str(
        caught.value
    )


def test_a_merged_key_may_be_given_anew_however_deep_its_anchor_lies(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("a: {b: {c: &c {x: 1}, d: &d {<<: *c, x: 2}}}\ne: {<<: *d, x: 3}\n")
    assert read_yaml(path)["e"] == {"x": 3}


OTHER = {
    "gamma": 0.5, "half_life": 8, "epsilon_f_low": 0.1, "epsilon_f_high": 0.3, "safety_threshold": 9,
    "filtering": False, "clip_low": 0.1, "clip_high": 0.4, "dual_clip": 3, "kl_coef": 0.1,
    "aggregation": "seq-mean-token-mean",
}  # fmt: skip


def weights(fipo: FipoConfig) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    old, change, advantages = (torch.randn(4, 60, generator=draw, dtype=torch.float64) for _ in range(3))
    change = 1.5 * change  # ratios beyond every threshold
    return fipo_loss_sum(old + change, old, advantages, torch.ones(4, 60), **loss_settings(fipo)).weights


def test_the_influence_weights_are_decided_by_the_keys_that_are_fipos_own_and_by_no_other():
    """But for `dual_clip`: `filtering` goes by it, and it is PPO's all the same."""
    assert OTHER.keys() == FipoConfig.model_fields.keys()
    others = {key: FipoConfig(**{key: value}) for key, value in OTHER.items()}
    assert {key for key, other in others.items() if not weights(other).equal(weights(FipoConfig()))} == {
        *INFLUENCE, "dual_clip"
    }  # fmt: skip
    assert {key for key, other in others.items() if other.influence != FipoConfig().influence} == INFLUENCE
    assert FipoConfig(half_life=1).influence == FipoConfig(gamma=0.5).influence


def test_where_all_weights_are_1_nothing_decides_them():
    """A new key that still acts there belongs into `is_dapo`."""
    dapo = {"epsilon_f_low": 0, "epsilon_f_high": 0}
    for fipo in (FipoConfig(**{key: value} | dapo) for key, value in OTHER.items()):
        assert fipo.is_dapo and fipo.influence is None
        assert weights(fipo).eq(1).all()
    assert FipoConfig(epsilon_f_low=0, epsilon_f_high=0.1).influence is not None
