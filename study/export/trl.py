"""TRL (https://huggingface.co/docs/trl): a YAML file for `trl grpo --config`. TRL has no FIPO loss: this is DAPO."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from study.export.gaps import Gap, no_dropping, one_batch, only_aggregation
from study.export.recipe import Recipe, require_outside
from study.export.script import comments


def arguments(recipe: Recipe) -> tuple[dict[str, object], list[Gap]]:
    """Fields of TRL's GRPOConfig, and what they do not say. Raises UserError for what only this trainer has."""
    require_outside(recipe, "trl")
    config, gaps = recipe.config, []
    fipo, optimizer, rollout = config.fipo, config.optimizer, config.rollout
    if fipo.epsilon_f_low or fipo.epsilon_f_high:
        gaps.append(
            Gap(
                f"fipo.epsilon_f_low = {fipo.epsilon_f_low:g}, fipo.epsilon_f_high = {fipo.epsilon_f_high:g},"
                f" gamma {fipo.discount:.6g}",
                "TRL has no FIPO loss, so the influence weights that this study is about are lost",
                "DAPO, all weights 1",
            )
        )
    one_batch(config, gaps, "no dynamic sampling, which keeps them")
    if rollout.max_sampled_batches > 1:
        ours = f"rollout.max_sampled_batches = {rollout.max_sampled_batches}"
        gaps.append(Gap(ours, "TRL has no dynamic sampling", "groups without an advantage stay in the batch"))
    if config.reward.overlong_buffer:
        ours = f"reward.overlong_buffer = {config.reward.overlong_buffer}"
        gaps.append(Gap(ours, "its soft overlong penalty takes a script of your own", "no penalty"))
    loss = only_aggregation(config, gaps, {"token-mean": "dapo", "seq-mean-token-mean": "grpo"})
    gpus = recipe.nodes * recipe.gpus_per_node
    accumulate, rest = divmod(recipe.samples_per_update, gpus)
    if rest:
        gaps.append(
            Gap(
                f"{recipe.samples_per_update} responses in one optimizer step",
                f"they do not divide over {gpus} GPUs",
                f"{(accumulate + 1) * gpus} responses",
            )
        )
        accumulate += 1
    no_dropping(config, gaps)
    return {
        "output_dir": f"output/{recipe.name}",
        "run_name": recipe.name,
        "loss_type": loss,
        "epsilon": fipo.clip_low,
        "epsilon_high": fipo.clip_high,
        "delta": fipo.dual_clip,
        "beta": fipo.kl_coef,
        "scale_rewards": "group",
        "importance_sampling_level": "token",
        "num_iterations": 1,
        "mask_truncated_completions": False,
        "vllm_importance_sampling_correction": False,
        "num_generations": rollout.group_size,
        "generation_batch_size": accumulate * gpus * recipe.minibatches,
        "max_completion_length": rollout.max_response_length,
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "top_k": 0,
        "use_vllm": True,
        "vllm_mode": "colocate",
        "learning_rate": optimizer.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup", "cosine": "cosine"}[optimizer.schedule],
        "warmup_steps": optimizer.warmup_steps * recipe.minibatches,
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "max_grad_norm": optimizer.grad_clip,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": accumulate,
        "max_steps": config.steps * recipe.minibatches,
        "bf16": config.model.dtype == "bfloat16",
        "gradient_checkpointing": config.model.activation_checkpointing,
        "save_strategy": "steps",
        "save_steps": (config.checkpoint.every or config.steps) * recipe.minibatches,
        "save_total_limit": config.checkpoint.keep,
        "logging_steps": 1,
        "seed": config.seed,
        "data_seed": config.seed,
    }, gaps


def render(recipe: Recipe, header: Iterable[str]) -> tuple[str, list[Gap]]:
    """The YAML file and what it does not say exactly."""
    fields, gaps = arguments(recipe)
    config = recipe.config
    lines = [
        *header,
        "",
        f"Run it on {recipe.nodes * recipe.gpus_per_node} GPUs: trl grpo --config THIS_FILE",
        "Steps are optimizer steps. Data: a data set with the columns prompt and solution, made of"
        f" {config.data.train}; this study asked with template {config.data.template!r}, chat {config.data.chat}.",
        "Rewards: right 1, wrong 0; the advantages are those of +1 and -1.",
    ]
    script = {
        "model_name_or_path": config.model.path,
        "trust_remote_code": False,
        "dtype": config.model.dtype,
        "dataset_name": config.data.train.split(":")[0],
        "reward_funcs": ["accuracy_reward"],
    }
    return comments(lines) + yaml.safe_dump(script | fields, sort_keys=False, allow_unicode=True), gaps
