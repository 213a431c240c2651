"""TRL (https://huggingface.co/docs/trl): a YAML file for `trl grpo --config`. TRL has no FIPO loss: this is DAPO."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from study.export.gaps import Gap, boxed_answers, no_dropping, one_batch, only_aggregation
from study.export.recipe import Recipe, asks, local_file, require_outside
from study.export.script import comments


def arguments(recipe: Recipe) -> tuple[dict[str, object], list[Gap]]:
    """Fields of TRL's GRPOConfig, and what they do not say. Raises UserError for what only this trainer has."""
    require_outside(recipe, "trl")
    config, gaps = recipe.config, []
    fipo, optimizer, rollout = config.fipo, config.optimizer, config.rollout
    if not fipo.is_dapo:
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
    gpus = recipe.machines.gpus
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
    if config.model.cpu_offload:
        gaps.append(Gap("model.cpu_offload = True", "that is a setting of accelerate, not of TRL", "none"))
    boxed_answers(config, gaps)
    no_dropping(config, gaps, there="but stays in there", taken="every sequence in the loss")
    return {
        "output_dir": f"output/{recipe.name}",
        "run_name": recipe.name,
        "loss_type": loss,
        "epsilon": fipo.clip_low,
        "epsilon_high": fipo.clip_high,
        "delta": fipo.dual_clip,
        "beta": fipo.kl_coef,
        "use_bias_correction_kl": False,  # the KL term without the policy ratio before it
        "scale_rewards": "group",
        "importance_sampling_level": "token",
        "num_iterations": 1,
        "mask_truncated_completions": False,
        "off_policy_mask_threshold": None,
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "disable_dropout": False,
        "vllm_importance_sampling_correction": rollout.importance_cap is not None,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": rollout.importance_cap,
        "num_generations": rollout.group_size,
        "generation_batch_size": accumulate * gpus * recipe.minibatches,
        "max_completion_length": rollout.max_response_length,
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_tensor_parallel_size": recipe.machines.engine_gpus,
        "vllm_gpu_memory_utilization": recipe.machines.engine_memory,
        "vllm_enable_sleep_mode": True,
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
        "eval_strategy": "no",
        "shuffle_dataset": True,
        "seed": config.seed,
        "data_seed": config.seed,
    }, gaps


def command(recipe: Recipe) -> str:
    """How TRL is started, the config in the place of {}."""
    machines = recipe.machines
    return (
        f"trl grpo --config {{}} --accelerate_config zero3 --num_processes {machines.gpus}"
        f" --num_machines {machines.nodes}"
    )


def render(recipe: Recipe, header: Iterable[str]) -> tuple[str, list[Gap]]:
    """The YAML file and what it does not say exactly."""
    fields, gaps = arguments(recipe)
    config = recipe.config
    data = local_file(config.data.train, ".jsonl")
    form = "a list of messages, which puts it into the chat format" if config.data.chat else "text, taken as it is"
    lines = [
        *header,
        "",
        f"Run it: {command(recipe).format('THIS_FILE')}",
        f"Data as JSONL with the columns prompt ({form}) and solution: training problems of {config.data.train} where"
        f" datasets says. Ask with {asks('boxed')}; of a row that brings a whole prompt, in verl's schema,"
        f" take the bare problem. Leave out prompts longer than {config.data.max_prompt_length} tokens.",
        "Steps are optimizer steps. Rewards: right 1, wrong 0; the advantages are those of +1 and -1.",
        f"No evaluation: score the checkpoints with fipo eval, {config.evaluation.sets[0].samples} samples a problem.",
    ]
    script = {
        "model_name_or_path": config.model.path,
        "trust_remote_code": False,
        "dtype": "float32",  # of the master weights; bf16 below is the arithmetic
        "datasets": [{"path": "json", "data_files": data, "columns": ["prompt", "solution"]}],
        "reward_funcs": ["accuracy_reward"],
    }
    return comments(lines) + yaml.safe_dump(script | fields, sort_keys=False, allow_unicode=True), gaps
