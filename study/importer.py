"""The reverse door of export: the FIPO authors' launch script of verl as a config of this trainer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from study.directory import require_free_path, write_or_refuse
from study.export.script import comments
from study.launch_script import LaunchScript, items, read_launch_script, scalar
from study.spec import set_dotted
from trainer.config import TrainerConfig
from trainer.config_file import validate
from trainer.errors import UserError

_ACTOR = "actor_rollout_ref.actor."
_ROLLOUT = "actor_rollout_ref.rollout."
_LOSS = _ACTOR + "policy_loss."
READ: dict[str, tuple[str, Any]] = {
    "data.max_prompt_length": ("data.max_prompt_length", 512),
    "data.max_response_length": ("rollout.max_response_length", 512),
    "data.train_batch_size": ("rollout.prompts_per_step", 1024),
    "data.seed": ("seed", 1),
    "actor_rollout_ref.model.enable_gradient_checkpointing": ("model.activation_checkpointing", True),
    _ACTOR + "fsdp_config.param_offload": ("model.cpu_offload", False),
    _ROLLOUT + "n": ("rollout.group_size", 1),
    _ROLLOUT + "temperature": ("rollout.temperature", 1.0),
    _ROLLOUT + "top_p": ("rollout.top_p", 1),
    _ROLLOUT + "tensor_model_parallel_size": ("rollout.vllm.tensor_parallel_size", 2),
    _ROLLOUT + "gpu_memory_utilization": ("rollout.vllm.gpu_memory_utilization", 0.5),
    _LOSS + "decay_rate": ("fipo.half_life", 128.0),
    _LOSS + "safety_thresh": ("fipo.safety_threshold", 3.0),
    _ACTOR + "clip_ratio_low": ("fipo.clip_low", 0.2),
    _ACTOR + "clip_ratio_high": ("fipo.clip_high", 0.2),
    _ACTOR + "clip_ratio_c": ("fipo.dual_clip", 3.0),
    _ACTOR + "loss_agg_mode": ("fipo.aggregation", "token-mean"),
    _ACTOR + "optim.lr": ("optimizer.learning_rate", 1e-6),
    _ACTOR + "optim.warmup_style": ("optimizer.schedule", "constant"),
    _ACTOR + "optim.weight_decay": ("optimizer.weight_decay", 0.01),
    _ACTOR + "grad_clip": ("optimizer.grad_clip", 1.0),
    _ACTOR + "ppo_mini_batch_size": ("optimizer.prompts_per_minibatch", 256),
    _ACTOR + "ppo_max_token_len_per_gpu": ("optimizer.micro_batch_tokens", 16384),
}
"""verl's keys that mean the same as ours, and what the fork takes where a script does not say them."""
FIXED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "algorithm.adv_estimator": ("gae", ("grpo",)),
    "algorithm.norm_adv_by_std_in_grpo": (True, (True,)),
    "algorithm.use_kl_in_reward": (False, (False,)),
    _ACTOR + "entropy_coeff": (0, (0,)),
    _ACTOR + "ppo_epochs": (1, (1,)),
    _ROLLOUT + "top_k": (-1, (-1, 0)),
    _ROLLOUT + "do_sample": (True, (True,)),
    _ROLLOUT + "val_kwargs.do_sample": (False, (True,)),
    _ROLLOUT + "val_kwargs.top_k": (-1, (-1, 0)),
    "actor_rollout_ref.model.trust_remote_code": (False, (False,)),
    "reward_model.reward_manager": ("dapo", ("dapo",)),
}
"""What this trainer always does: what the fork takes where a script does not say it, and the values that agree."""


@dataclass(frozen=True)
class Imported:
    """A config, and what of the script is not in it."""

    config: TrainerConfig
    unread: tuple[str, ...]
    """``key=value`` of the script that nothing here was made of: most have no key here, some are a matter of speed."""
    different: tuple[str, ...]
    """What the script's run does in another way than this config's, in words."""

    def to_yaml(self, source: str) -> str:
        """The config as YAML; its comments tell what is different and list what was not read."""
        lines = [f"Imported from {source}"]
        for title, told in (("Different here:", self.different), ("Not read:", self.unread)):
            lines += [title, *(f"- {each}" for each in told)] if told else []
        data = self.config.model_dump(mode="json")
        return comments(lines) + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def import_script(path: Path, *, source: str, out: Path) -> Imported:
    """Read `path` and write its config to `out`. Raises UserError for another `source`, or when `out` exists."""
    if source != "verl-script":
        raise UserError(f"--from {source}: not known; allowed: verl-script")
    require_free_path(out, default=False)
    imported = import_verl_script(path)
    write_or_refuse(out, imported.to_yaml(path.name))
    return imported


def import_verl_script(path: Path) -> Imported:
    """The run of a verl launch script as a config. What it does not say is as in the authors' fork; nothing is run.

    Raises:
        UserError: the script cannot be read, or what it says is not a valid config.
    """
    script = read_launch_script(path)
    read: set[str] = set()

    def said(key: str, default: Any = None, *, of: Callable[[str], Any] = scalar) -> Any:
        read.add(key)
        value = script.overrides.get(key)
        if value is None:
            return default
        if key in script.unknown or "${" in value:
            raise UserError(f"{path}: {key} = {value!r} is not known without running the script; write its value there")
        return of(value)

    data: dict[str, Any] = {}
    different: list[str] = []
    for key, (ours, default) in READ.items():
        set_dotted(data, ours, said(key, default))
    for key, (default, agree) in FIXED.items():
        value = said(key, default)
        if value not in agree:
            different.append(f"{key} is {value} there{_unsaid(script, key)}, always {agree[0]} here")
    _loss(said, data, different, path)
    _rewards_and_batches(said, data, different, path)
    _data_and_model(said, data, different, path)
    _schedule(said, data, different)
    if script.branches:
        different.append("the script has conditions or loops; its lines were read in order, as if all ran")
    config = validate(TrainerConfig, data, source=str(path))
    unread = tuple(f"{key}={value}" for key, value in script.overrides.items() if key not in read)
    return Imported(config, unread, tuple(different))


Said = Callable[..., Any]


def _loss(said: Said, data: dict[str, Any], different: list[str], path: Path) -> None:
    """epsilon_f from verl's one ratio and its switch; its vanilla loss is DAPO, both 0. KL in the loss."""
    mode = said(_LOSS + "loss_mode", "vanilla")
    ratio, high_only = said(_LOSS + "future_kl_clip_ratio", 0.0), said(_LOSS + "future_kl_clip_high_only", False)
    if mode == "vanilla":
        low = high = 0.0
        different.append("a sequence with several tokens beyond fipo.dual_clip stays in verl's DAPO loss, not here")
    elif mode != "future_kl":
        raise UserError(f"{path}: {_LOSS}loss_mode = {mode}: not known here; allowed: future_kl (FIPO), vanilla (DAPO)")
    elif ratio == 0:
        low, high = 1.0, 9.0  # the authors' code: no lower bound, and at most 10
    else:
        low, high = 0.0 if high_only is True else ratio, ratio
    set_dotted(data, "fipo.epsilon_f_low", low)
    set_dotted(data, "fipo.epsilon_f_high", high)
    uses_kl, coefficient = said(_ACTOR + "use_kl_loss", False), said(_ACTOR + "kl_loss_coef", 0.001)
    estimate = said(_ACTOR + "kl_loss_type", "low_var_kl")
    set_dotted(data, "fipo.kl_coef", coefficient if uses_kl is True else 0.0)
    if uses_kl is True and estimate not in ("low_var_kl", "k3"):
        different.append(f"{_ACTOR}kl_loss_type is {estimate} there, low_var_kl (k3) here")


def _rewards_and_batches(said: Said, data: dict[str, Any], different: list[str], path: Path) -> None:
    overlong = "reward_model.overlong_buffer."
    enabled = said(overlong + "enable", False) is True
    buffer, penalty = said(overlong + "len", 0), said(overlong + "penalty_factor", 0.0)
    if enabled:
        data["reward"] = {"overlong_buffer": buffer, "overlong_penalty": penalty}

    groups = "algorithm.filter_groups."
    drawn, metric = said(groups + "max_num_gen_batches", 0), said(groups + "metric", None)
    prompts, at_once = data["rollout"]["prompts_per_step"], said("data.gen_batch_size")
    if said(groups + "enable", False) is not True:
        different.append("groups that are all right or all wrong stay in verl's batch; here they are left out")
        return
    if not isinstance(drawn, int) or drawn < 1:
        raise UserError(
            f"{path}: {groups}max_num_gen_batches = {drawn} draws without end in verl;"
            " this trainer needs a bound, write 1 or more"
        )
    whole = isinstance(at_once, int) and isinstance(prompts, int) and prompts > 0
    set_dotted(data, "rollout.max_sampled_batches", -(-drawn * at_once // prompts) if whole else drawn)
    if metric != "acc":
        different.append(
            f"{groups}metric is {metric} there; here groups that are all right or all wrong are drawn again"
        )


def _data_and_model(said: Said, data: dict[str, Any], different: list[str], path: Path) -> None:
    own = "this trainer's own, since the script does not say it"
    train = said("data.train_files", [], of=items)
    if len(train) > 1:
        raise UserError(f"{path}: data.train_files holds {len(train)} files; this trainer reads one, join them")
    if train:
        set_dotted(data, "data.train", train[0])
    else:
        different.append(f"data.train is {own}")
    set_dotted(data, "data.chat", True)  # verl puts every prompt into the chat format
    if (model := said("actor_rollout_ref.model.path")) is not None:
        set_dotted(data, "model.path", str(model))
    else:
        different.append(f"model.path is {own}")
    dtype = said(_ACTOR + "fsdp_config.mixed_precision.param_dtype", "bf16")
    set_dotted(data, "model.dtype", {"bf16": "bfloat16", "fp32": "float32"}.get(dtype, dtype))


def _schedule(said: Said, data: dict[str, Any], different: list[str]) -> None:
    own = "this trainer's own, since the script does not say it"
    steps = said("trainer.total_training_steps")
    if steps is not None:
        data["steps"] = steps
    else:
        different.append(f"steps is {own}: verl counts epochs of its data")
    warmup, share = said(_ACTOR + "optim.lr_warmup_steps", -1), said(_ACTOR + "optim.lr_warmup_steps_ratio", 0.0)
    if warmup is None or (isinstance(warmup, int) and warmup < 0):
        warmup = int(share * steps) if isinstance(steps, int) and isinstance(share, float) else 0
        if share and steps is None:
            different.append(f"the warm-up is {share} of the steps there, none here, as the steps are not known")
    set_dotted(data, "optimizer.warmup_steps", warmup)
    set_dotted(data, "checkpoint.every", _positive(said("trainer.save_freq", -1)))
    if (kept := said("trainer.max_actor_ckpt_to_keep")) is not None:
        set_dotted(data, "checkpoint.keep", kept)

    values = _ROLLOUT + "val_kwargs."
    files, samples = said("data.val_files", [], of=items), said(values + "n", 1)
    every, top_p = _positive(said("trainer.test_freq", -1)), said(values + "top_p", 1.0)
    temperature = said(values + "temperature", 0)
    if files:
        names = [re.sub(r"[^A-Za-z0-9_.]", "_", Path(file).stem) or "set" for file in files]
        data["evaluation"] = {
            "sets": [
                {"name": name, "path": file, "samples": samples, "every": every}
                for name, file in zip(names, files, strict=True)
            ]
        }
    else:
        different.append(f"evaluation.sets is {own}")
    set_dotted(data, "evaluation.top_p", top_p)
    if temperature:
        set_dotted(data, "evaluation.temperature", temperature)
    else:
        different.append("evaluation is greedy there (temperature 0), sampled at temperature 1 here")


def _positive(frequency: Any) -> Any:
    """None for verl's -1 and 0, which are never."""
    return None if isinstance(frequency, int) and frequency <= 0 else frequency


def _unsaid(script: LaunchScript, key: str) -> str:
    return "" if key in script.overrides else ", as the script does not say it"
