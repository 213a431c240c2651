"""The presets are the paper's tables, value by value; DAPO and GRPO are settings of them."""

from __future__ import annotations

from operator import attrgetter

import pytest
import torch

from tests.trainer.batches import changed
from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.losses import fipo_loss_sum
from trainer.presets import preset_names, read_preset
from trainer.update import loss_settings

# arXiv 2603.19835, Table 2 (32B) and Table 3 (7B), FIPO columns
SHARED = {
    "rollout.prompts_per_step": 512,  # global batch size
    "optimizer.learning_rate": 1e-6,
    "optimizer.schedule": "constant",
    "optimizer.warmup_steps": 10,
    "optimizer.weight_decay": 0.1,
    "optimizer.grad_clip": 1.0,
    "data.max_prompt_length": 2048,
    "rollout.temperature": 1.0,
    "rollout.top_p": 1.0,
    "fipo.dual_clip": 10.0,
    "fipo.clip_low": 0.2,
    "fipo.clip_high": 0.28,
    "fipo.kl_coef": 0.0,
    "optimizer.prompts_per_minibatch": 64,
    "fipo.half_life": 32.0,
    "fipo.epsilon_f_high": 0.2,  # influence weights up to 1.2
    "fipo.aggregation": "token-mean",
    "data.chat": True,  # these as in the authors' launch scripts
    "data.template": "answer",
    "reward.overlong_penalty": 1.0,
    "rollout.max_sampled_batches": 10,
}
TABLES = {
    "qwen2.5_32b": SHARED
    | {
        "model.path": "Qwen/Qwen2.5-32B",
        "rollout.group_size": 16,
        "rollout.max_response_length": 20480,
        "reward.overlong_buffer": 4096,
        "fipo.epsilon_f_low": 0.0,  # influence weights from 1.0
        "fipo.safety_threshold": 10.0,
    },
    "qwen2.5_7b_math": SHARED
    | {
        "model.path": "Qwen/Qwen2.5-Math-7B",
        "rollout.group_size": 32,
        "rollout.max_response_length": 10240,
        "reward.overlong_buffer": 2048,
        "fipo.epsilon_f_low": 0.2,  # influence weights from 0.8
        "fipo.safety_threshold": 3.0,
    },
}

# The DAPO columns, where they differ. No influence weights is bounds of 0.
WITHOUT_WEIGHTS = {"fipo.epsilon_f_low": 0.0, "fipo.epsilon_f_high": 0.0, "optimizer.prompts_per_minibatch": 32}
DAPO = {
    "qwen2.5_32b": WITHOUT_WEIGHTS,
    "qwen2.5_7b_math": WITHOUT_WEIGHTS
    | {"rollout.group_size": 16, "rollout.max_response_length": 8192, "reward.overlong_buffer": 4096},
}


def test_both_models_have_a_preset() -> None:
    assert preset_names() == sorted(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_a_preset_is_the_papers_table(name: str) -> None:
    config = TrainerConfig.model_validate(read_preset(name))
    for key, value in TABLES[name].items():
        assert attrgetter(key)(config) == value, key
    assert [(each.name, each.samples) for each in config.evaluation.sets] == [("aime_2024", 32), ("aime_2025", 32)]
    assert (config.evaluation.temperature, config.evaluation.top_p) == (1.0, 0.7)


@pytest.mark.parametrize("name", TABLES)
def test_the_dapo_columns_and_grpo_are_settings_of_the_preset(name: str) -> None:
    """With FutureKL far from 0 every weight is 1; GRPO has equal clips besides."""
    dapo = TrainerConfig.model_validate(read_preset(name))
    for key, value in DAPO[name].items():
        section, field = key.split(".")
        dapo = changed(dapo, section, **{field: value})
    grpo = dapo.fipo.model_copy(update={"clip_high": dapo.fipo.clip_low, "aggregation": "seq-mean-token-mean"})
    moved = torch.linspace(0.5, -0.5, 8)[None]
    for settings in (dapo.fipo, grpo):
        result = fipo_loss_sum(moved, torch.zeros(1, 8), torch.ones(1, 8), torch.ones(1, 8), **loss_settings(settings))
        assert result.weights.tolist() == [[1.0] * 8] and result.sums["future_kl"].abs() > 0.1
        bound = 1 + settings.clip_high
        kept = moved.exp().clamp(max=bound)
        expected = -kept.sum() / (1 if settings is dapo.fipo else 8)
        assert result.total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"known: qwen2\.5_32b, qwen2\.5_7b_math"):
        read_preset("qwen3")
