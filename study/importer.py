"""The reverse door of export: the FIPO authors' launch script of verl as a config of this trainer."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from study.directory import write_atomically
from study.export.script import comments
from study.spec import set_dotted
from trainer.config import TrainerConfig
from trainer.errors import UserError, validate

_ACTOR = "actor_rollout_ref.actor."
_LOSS = _ACTOR + "policy_loss."
PLAIN = {
    "data.train_files": "data.train",
    "data.max_prompt_length": "data.max_prompt_length",
    "data.max_response_length": "rollout.max_response_length",
    "data.train_batch_size": "rollout.prompts_per_step",
    "actor_rollout_ref.model.path": "model.path",
    "actor_rollout_ref.model.enable_gradient_checkpointing": "model.activation_checkpointing",
    _ACTOR + "fsdp_config.param_offload": "model.cpu_offload",
    "actor_rollout_ref.rollout.n": "rollout.group_size",
    "actor_rollout_ref.rollout.temperature": "rollout.temperature",
    "actor_rollout_ref.rollout.top_p": "rollout.top_p",
    "actor_rollout_ref.rollout.val_kwargs.temperature": "evaluation.temperature",
    "actor_rollout_ref.rollout.val_kwargs.top_p": "evaluation.top_p",
    "reward_model.overlong_buffer.len": "reward.overlong_buffer",
    "reward_model.overlong_buffer.penalty_factor": "reward.overlong_penalty",
    _LOSS + "decay_rate": "fipo.half_life",
    _LOSS + "safety_thresh": "fipo.safety_threshold",
    _ACTOR + "clip_ratio_low": "fipo.clip_low",
    _ACTOR + "clip_ratio_high": "fipo.clip_high",
    _ACTOR + "clip_ratio_c": "fipo.dual_clip",
    _ACTOR + "loss_agg_mode": "fipo.aggregation",
    _ACTOR + "optim.lr": "optimizer.learning_rate",
    _ACTOR + "optim.warmup_style": "optimizer.schedule",
    _ACTOR + "optim.lr_warmup_steps": "optimizer.warmup_steps",
    _ACTOR + "optim.weight_decay": "optimizer.weight_decay",
    _ACTOR + "grad_clip": "optimizer.grad_clip",
    _ACTOR + "ppo_mini_batch_size": "optimizer.prompts_per_minibatch",
    _ACTOR + "ppo_max_token_len_per_gpu": "optimizer.micro_batch_tokens",
    "trainer.total_training_steps": "steps",
}
"""verl's keys that mean the same as ours."""


@dataclass(frozen=True)
class Imported:
    """A config, and what of the script is not in it."""

    config: TrainerConfig
    unread: tuple[str, ...]
    """``key=value`` of the script that this trainer has no key for."""

    def to_yaml(self, source: str) -> str:
        """The config as YAML; its comments list what was not read."""
        lines = [f"Imported from {source}", *(["Not read, having no counterpart here:"] if self.unread else [])]
        lines += [f"  {each}" for each in self.unread]
        return comments(lines) + yaml.safe_dump(
            self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        )


def import_script(path: Path, *, source: str, out: Path) -> Imported:
    """Read `path` and write its config to `out`. Raises UserError for another `source`, or when `out` exists."""
    if source != "verl-script":
        raise UserError(f"--from {source}: not known; allowed: verl-script")
    if out.exists():
        raise UserError(f"--out {out} exists; choose another name, or remove it first")
    imported = import_verl_script(path)
    write_atomically(out, imported.to_yaml(path.name))
    return imported


def import_verl_script(path: Path) -> Imported:
    """Read the Hydra overrides of a verl launch script; nothing is run. The defaults of this trainer fill the rest.

    Variables are replaced by what the script assigns to them: text, ``${NAME:-default}`` and products or sums of whole
    numbers in ``$((...))``. The environment is not looked at.

    Raises:
        UserError: the file cannot be read, holds no overrides, or they are not a valid config.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give verl's launch script") from None
    try:
        # The shell does not split inside $((...)), shlex does.
        joined = re.sub(r"\$\(\([^\n]*?\)\)", lambda m: m[0].replace(" ", ""), text.replace("\\\n", " "))
        words = shlex.split(joined, comments=True)
    except ValueError as error:
        raise UserError(f"{path}: is not a shell script ({error}); give verl's launch script") from None
    variables = {"HOME": "~", "PWD": "."}
    found: dict[str, str] = {}
    for word in words:
        if assignment := re.fullmatch(r"([A-Za-z_]\w*)=(.*)", word, re.DOTALL):
            variables[assignment[1]] = _expand(assignment[2], variables)
        elif override := re.fullmatch(r"\+{0,2}([a-z_]+(?:\.[\w]+)+)=(.*)", word, re.DOTALL):
            found[override[1]] = _expand(override[2], variables)
    if not found:
        raise UserError(f"{path}: holds no Hydra overrides (key.name=value); give verl's launch script")
    return _config(found, path)


def _config(found: dict[str, str], path: Path) -> Imported:
    data: dict[str, Any] = {}
    read = set(PLAIN) & found.keys()
    for key in read:
        set_dotted(data, PLAIN[key], _scalar(found[key]))
    _bounds(found, data, read)
    if _scalar(found.get("reward_model.overlong_buffer.enable", "true")) is False:
        data.get("reward", {}).pop("overlong_buffer", None)
    read |= {"reward_model.overlong_buffer.enable"} & found.keys()
    if _scalar(found.get("algorithm.filter_groups.enable", "false")) is True:
        batches = _scalar(found.get("algorithm.filter_groups.max_num_gen_batches", "0"))
        if not isinstance(batches, int) or batches < 1:
            raise UserError(
                f"{path}: algorithm.filter_groups.max_num_gen_batches = {batches} draws without end in verl;"
                " this trainer needs a bound, write 1 or more"
            )
        set_dotted(data, "rollout.max_sampled_batches", batches)
    read |= {"algorithm.filter_groups.enable", "algorithm.filter_groups.max_num_gen_batches"} & found.keys()
    if _scalar(found.get(_ACTOR + "use_kl_loss", "false")) is True:
        set_dotted(data, "fipo.kl_coef", _scalar(found.get(_ACTOR + "kl_loss_coef", "0.001")))
    read |= {_ACTOR + "use_kl_loss", _ACTOR + "kl_loss_coef"} & found.keys()
    config = validate(TrainerConfig, data, source=str(path))
    return Imported(config, tuple(f"{key}={value}" for key, value in found.items() if key not in read))


def _bounds(found: dict[str, str], data: dict[str, Any], read: set[str]) -> None:
    """epsilon_f from verl's one ratio and its switch; another loss than future_kl is DAPO, both 0."""
    ratio_key, high_key = _LOSS + "future_kl_clip_ratio", _LOSS + "future_kl_clip_high_only"
    ratio, high_only = float(_scalar(found.get(ratio_key, "0"))), _scalar(found.get(high_key, "false"))
    if found.get(_LOSS + "loss_mode", "vanilla") != "future_kl":
        low = high = 0.0
    elif ratio == 0.0:
        low, high = 1.0, 9.0  # the authors' code: no lower bound, and at most 10
    else:
        low, high = 0.0 if high_only is True else ratio, ratio
    set_dotted(data, "fipo.epsilon_f_low", low)
    set_dotted(data, "fipo.epsilon_f_high", high)
    read |= {_LOSS + "loss_mode", ratio_key, high_key} & found.keys()


def _scalar(text: str) -> Any:
    """A value as Hydra reads it: a number, True or False in any capitals, else text without its quotes."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text


def _expand(text: str, variables: dict[str, str]) -> str:
    """`text` with the variables known so far; sums and products of whole numbers are worked out."""
    for _ in range(10):  # a default may hold variables itself
        before = text
        text = re.sub(r"\$\{(\w+):-([^{}]*)\}", lambda m: variables.get(m[1], m[2].strip("\"'")), text)
        text = re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: variables.get(m[1] or m[2], m[0]), text)
        text = re.sub(r"\$\(\(([^()]*(?:\([^()]*\))?[^()]*)\)\)", lambda m: _arithmetic(m, variables), text)
        if text == before:
            break
    return text


def _arithmetic(match: re.Match[str], variables: dict[str, str]) -> str:
    terms = [[factor.strip(" ()") for factor in term.split("*")] for term in match[1].split("+")]
    numbers = [[variables.get(factor, factor) for factor in term] for term in terms]
    if not all(number.isdigit() and len(number) < 12 for term in numbers for number in term):
        return match[0]
    total = 0
    for term in numbers:
        product = 1
        for number in term:
            product *= int(number)
        total += product
    return str(total)
