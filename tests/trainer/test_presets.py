"""The presets are the paper's tables, value by value."""

from __future__ import annotations

import pytest

from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.presets import preset_names, read_preset

# arXiv 2603.19835, Table 2 (32B, FIPO column) and Table 3 (7B, FIPO column)
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


def test_both_models_have_a_preset() -> None:
    assert preset_names() == sorted(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_a_preset_is_the_papers_table(name: str) -> None:
    config = TrainerConfig.model_validate(read_preset(name))
    for key, value in TABLES[name].items():
        found = config
        for part in key.split("."):
            found = getattr(found, part)
        assert found == value, key
    assert [(each.name, each.samples) for each in config.evaluation.sets] == [("aime_2024", 32), ("aime_2025", 32)]
    assert (config.evaluation.temperature, config.evaluation.top_p) == (1.0, 0.7)


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"known: qwen2\.5_32b, qwen2\.5_7b_math"):
        read_preset("qwen3")
