"""No field is lost on the way: whatever decides a run's numbers changes the exported file, or is refused by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from study.export import TRAINERS
from study.export.recipe import Machines, Recipe
from study.spec import set_dotted
from trainer.config import INFLUENCE, TrainerConfig
from trainer.presets import read_preset

SETS = read_preset("qwen2.5_7b_math")["evaluation"]["sets"]
CHANGED = {
    "steps": 100, "seed": 5, "model.path": "other/model", "model.dtype": "float32",
    "model.activation_checkpointing": False, "model.cpu_offload": True, "data.train": "other/data",
    "data.template": "boxed", "data.chat": False, "data.max_prompt_length": 100, "rollout.prompts_per_step": 256,
    "rollout.group_size": 4, "rollout.max_response_length": 4096, "rollout.temperature": 0.9,
    "rollout.importance_cap": 2.0, "rollout.max_sampled_batches": 4, "reward.overlong_buffer": 100,
    "reward.overlong_penalty": 0.5, "fipo.gamma": 0.5, "fipo.half_life": 7.0, "fipo.epsilon_f_low": 0.1,
    "fipo.epsilon_f_high": 0.3, "fipo.safety_threshold": 5.0, "fipo.filtering": False, "fipo.clip_low": 0.1,
    "fipo.clip_high": 0.4, "fipo.dual_clip": 3.0, "fipo.kl_coef": 0.01, "fipo.aggregation": "seq-mean-token-mean",
    "optimizer.learning_rate": 1e-5, "optimizer.schedule": "cosine", "optimizer.warmup_steps": 3,
    "optimizer.weight_decay": 0.2, "optimizer.grad_clip": 0.5, "optimizer.prompts_per_minibatch": 32,
    "evaluation.sets": [{**SETS[0], "path": "other/aime", "samples": 4, "every": 7}, {**SETS[1], "samples": 4}],
    "evaluation.temperature": 0.5, "evaluation.top_p": 0.9, "checkpoint.every": 3, "checkpoint.keep": 7,
    "optimizer.micro_batch_tokens": 90000,
}  # fmt: skip
OWN = {
    "threads": "of this trainer's processes",
    "rank_timeout": "of this trainer's processes",
    "rollout.backend": "each target has its own engine",
    "rollout.vllm": "of this trainer's engine; what machines need is taken by Recipe",
    "rollout.top_p": "1 is the only value",
    "evaluation.completions": "kept for this project's dashboard",
    "evaluation.seed": "no target has a seed of its own for evaluation",
}
"""Fields that no target has to say, and why."""
UNSAID = {
    "trl": {
        "reward.overlong_penalty": "the penalty is refused as a whole",
        "evaluation.temperature": "no evaluation, as the file says", "evaluation.top_p": "no evaluation",
        "optimizer.micro_batch_tokens": "one sequence at a time",
        "fipo.safety_threshold": "FIPO is refused as a whole", "fipo.filtering": "FIPO is refused as a whole",
    },
    "ms-swift": {"optimizer.micro_batch_tokens": "one sequence at a time"},
    "slime": {
        "reward.overlong_penalty": "the penalty is refused as a whole", "checkpoint.keep": "it keeps every checkpoint",
    },
    "verl": {},
}  # fmt: skip


def leaves(model: type[BaseModel] = TrainerConfig, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and key not in OWN:
            yield from leaves(field.annotation, f"{key}.")
        else:
            yield key


def changed(key: str | None, *, dapo: bool = False) -> TrainerConfig:
    """The paper's recipe, or that of DAPO, with one field changed."""
    data = read_preset("qwen2.5_7b_math")
    set_dotted(data, "data.chat", True)
    if dapo:
        data["fipo"] |= {"epsilon_f_low": 0.0, "epsilon_f_high": 0.0}
    if key == "fipo.gamma":
        del data["fipo"]["half_life"]
    if key is not None:
        set_dotted(data, key, CHANGED[key])
    return TrainerConfig.model_validate(data)


def said(target: str, key: str | None = None, *, dapo: bool = False) -> tuple[str, str]:
    """What the file says of `changed(key)`, and what it refuses."""
    recipe = Recipe(changed(key, dapo=dapo), "name", Machines())
    text, gaps = TRAINERS[target](recipe, ())
    return text, "\n".join(map(str, gaps))


def test_what_each_target_leaves_unsaid_is_listed():
    assert UNSAID.keys() == TRAINERS.keys()


@pytest.mark.parametrize("target", TRAINERS)
def test_every_field_is_said_or_refused(target):
    plain, lost = said(target), []
    for key in leaves():
        if key not in OWN and key not in UNSAID[target] and said(target, key) == plain:
            lost.append(key)
    assert not lost
    assert all(said(target, key) == plain for key in UNSAID[target]), "no longer unsaid"


@pytest.mark.parametrize("target", TRAINERS)
def test_nor_is_one_of_dapo_lost_but_what_shapes_influence_weights(target):
    plain = said(target, dapo=True)
    lost = {key for key in leaves() if key not in OWN and said(target, key, dapo=True) == plain}
    assert lost <= {f"fipo.{name}" for name in INFLUENCE} | UNSAID[target].keys()


@pytest.mark.parametrize(
    ("target", "key", "says"),
    [
        ("verl", "rollout.importance_cap", "rollout.importance_cap = 2: its loss has no importance weights"),
        ("slime", "rollout.importance_cap", "rollout.importance_cap = 2: its loss has no importance weights"),
        ("slime", "fipo.kl_coef", "fipo.kl_coef = 0.01: its FIPO loss has no KL term"),
        ("verl", "data.chat", "data.chat = False: every prompt is put into the chat format"),
        ("verl", "model.dtype", "model.dtype = float32: its config has no key for the arithmetic of training"),
        ("trl", "model.cpu_offload", "model.cpu_offload = True"),
    ],
)
def test_what_the_target_lacks_is_refused_by_name(target, key, says):
    assert says in said(target, key)[1]
    assert says not in said(target)[1]


@pytest.mark.parametrize(
    ("target", "key", "says"),
    [
        ("ms-swift", "rollout.importance_cap", "--rollout_importance_sampling_threshold=2"),
        ("ms-swift", "data.chat", "--use_chat_template=false"),
        ("ms-swift", "fipo.kl_coef", "--beta=0.01"),
        ("trl", "rollout.importance_cap", "vllm_importance_sampling_clip_max: 2.0"),
        ("trl", "fipo.kl_coef", "use_bias_correction_kl: false"),
        ("slime", "data.template", "--rm-type=math"),
        ("verl", "fipo.kl_coef", "use_kl_loss=True"),
    ],
)
def test_what_the_target_has_is_written(target, key, says):
    assert says in said(target, key)[0]
