"""ms-swift (https://github.com/modelscope/ms-swift): a launch script for `swift rlhf`."""

from __future__ import annotations

import json
from collections.abc import Iterable

from study.export.gaps import (
    Gap,
    boxed_answers,
    half_life,
    no_dropping,
    no_filter_switch,
    one_batch,
    one_ratio,
    only_aggregation,
)
from study.export.recipe import Recipe, asks, local_file, require_outside
from study.export.script import option, script, word
from trainer.config import TrainerConfig

PER_DEVICE = 1
"""Sequences in one forward and backward pass on one GPU; changes memory, not the gradient."""


def render(recipe: Recipe, header: Iterable[str]) -> tuple[str, list[Gap]]:
    """The launch script and what it does not say exactly. Raises UserError for what only this trainer has."""
    require_outside(recipe, "ms-swift")
    config, gaps = recipe.config, []
    sections = [
        ("FIPO loss", _options({"rlhf_type": "grpo"} | _loss(config, gaps))),
        ("Model and data", _options(_data(config))),
        ("Rollouts and dynamic sampling", _options(_rollout(recipe, gaps))),
        ("Reward: 2 x right or wrong gives the advantages of +1 and -1", _reward(config)),
        ("Optimizer: steps are optimizer steps here", _options(_optimizer(recipe))),
        ("Evaluation and checkpoints", _options(_schedule(recipe))),
    ]
    boxed_answers(config, gaps)
    no_dropping(config, gaps, there="but stays in there", taken="every sequence in the loss")
    lines = [
        *header,
        "",
        "Run it with the environment variables NNODES, NPROC_PER_NODE: bash THIS_FILE",
        f"Data as JSONL with the columns problem and answer: training problems of {config.data.train} and the"
        " first evaluation set where --dataset and --val_dataset say. Ask with"
        f" {asks('boxed')}; of a row that brings a whole prompt, in verl's schema, take the bare problem.",
        "Dynamic sampling compares rewards there, right and wrong here; they differ where the overlong penalty counts.",
        f"Evaluation there samples with the temperature and top-p of training; here {config.evaluation.temperature:g}"
        f" and {config.evaluation.top_p:g}.",
    ]
    return script(lines, "swift rlhf", sections, setup=_processes(recipe)), gaps


def _loss(config: TrainerConfig, gaps: list[Gap]) -> dict[str, object]:
    fipo = config.fipo
    ratio = one_ratio(fipo, gaps, unclipped=False)
    if ratio is None:
        loss: dict[str, object] = {
            "loss_type": only_aggregation(config, gaps, {"token-mean": "dapo", "seq-mean-token-mean": "grpo"})
        }
    else:
        no_filter_switch(fipo, gaps)
        loss = {
            "loss_type": only_aggregation(config, gaps, {"token-mean": "fipo"}),
            "fipo_decay_rate": half_life(config, gaps),
            "fipo_clip_range": ratio[0],
            "fipo_clip_high_only": ratio[1],
            "fipo_safety_threshold": fipo.safety_threshold,
        }
    cap = config.rollout.importance_cap
    if cap is not None:
        loss |= {"rollout_importance_sampling_mode": "token_truncate", "rollout_importance_sampling_threshold": cap}
    return loss | {
        "delta": fipo.dual_clip,
        "epsilon": fipo.clip_low,
        "epsilon_high": fipo.clip_high,
        "beta": fipo.kl_coef,
        "advantage_estimator": "grpo",
        "scale_rewards": "group",
        "kl_in_reward": False,
        "importance_sampling_level": "token",
        "num_iterations": 1,
        "top_entropy_quantile": 1.0,
    }


def _options(values: dict[str, object]) -> list[str]:
    return [option(key, value) for key, value in values.items()]


def _processes(recipe: Recipe) -> str:
    """However many GPUs there are: the gradient is accumulated until a minibatch is full, and the GPUs together take
    whole problems in evaluation, which it insists on."""
    nodes, gpus = recipe.machines.nodes, recipe.machines.gpus_per_node
    k = recipe.config.evaluation.sets[0].samples
    return (
        f'export NNODES="${{NNODES:-{nodes}}}" NPROC_PER_NODE="${{NPROC_PER_NODE:-{gpus}}}"\n'
        f"samples={recipe.samples_per_update}  # responses in one optimizer step\n"
        f"at_once=$((NNODES * NPROC_PER_NODE * {PER_DEVICE}))\n"
        "if ((samples % at_once)); then\n"
        '    echo "NNODES x NPROC_PER_NODE = $at_once does not divide the $samples responses of one optimizer step;'
        ' choose a divisor" >&2\n'
        "    exit 2\n"
        "fi\n"
        "in_evaluation=1\n"
        f"while ((in_evaluation * NNODES * NPROC_PER_NODE % {k})); do ((in_evaluation += 1)); done\n"
        'set -- "--gradient_accumulation_steps=$((samples / at_once))"'
        ' "--per_device_eval_batch_size=$in_evaluation" "$@"\n'
    )


def _data(config: TrainerConfig) -> dict[str, object]:
    model = config.model
    return {
        "model": model.path,
        "use_hf": True,
        "tuner_type": "full",
        "torch_dtype": model.dtype,
        "gradient_checkpointing": model.activation_checkpointing,
        "deepspeed": "zero3_offload" if model.cpu_offload else "zero3",
        "dataset": local_file(config.data.train, ".jsonl"),
        "columns": json.dumps({"problem": "query", "answer": "solution"}),
        "system": "",
        "use_chat_template": config.data.chat,
        "max_length": config.data.max_prompt_length,
        "truncation_strategy": "delete",
        "max_completion_length": config.rollout.max_response_length,
        "dataset_shuffle": True,
        "seed": config.seed,
        "data_seed": config.seed,
    }


def _rollout(recipe: Recipe, gaps: list[Gap]) -> dict[str, object]:
    config, rollout = recipe.config, recipe.config.rollout
    one_batch(config, gaps, "--dynamic_sample=false, which keeps them")
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_tensor_parallel_size": recipe.machines.engine_gpus,
        "vllm_gpu_memory_utilization": recipe.machines.engine_memory,
        "sleep_level": 1,  # the engine's memory is free while training
        "offload_model": recipe.machines.offload,
        "offload_optimizer": recipe.machines.offload,
        "num_generations": rollout.group_size,
        "generation_batch_size": rollout.prompts_per_step * rollout.group_size,
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "top_k": -1,
        "repetition_penalty": 1.0,
        "dynamic_sample": rollout.max_sampled_batches > 1,
        "max_resample_times": max(rollout.max_sampled_batches - 1, 1),
        "overlong_filter": False,
    }


def _reward(config: TrainerConfig) -> list[str]:
    reward = config.reward
    if not reward.overlong_buffer:
        return ["--reward_funcs", "accuracy", "--reward_weights", "2"]
    return [
        "--reward_funcs",
        "accuracy",
        "soft_overlong",
        "--reward_weights",
        "2",
        word(reward.overlong_penalty),
        option("soft_max_length", config.rollout.max_response_length),
        option("soft_cache_length", reward.overlong_buffer),
    ]


def _optimizer(recipe: Recipe) -> dict[str, object]:
    optimizer = recipe.config.optimizer
    return {
        "learning_rate": optimizer.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup", "cosine": "cosine"}[optimizer.schedule],
        "warmup_steps": optimizer.warmup_steps * recipe.minibatches,
        "warmup_ratio": 0.0,
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "max_grad_norm": optimizer.grad_clip,
        "per_device_train_batch_size": PER_DEVICE,
        "max_steps": recipe.config.steps * recipe.minibatches,
    }


def _schedule(recipe: Recipe) -> dict[str, object]:
    config = recipe.config
    every, saved = config.evaluation.sets[0].every, config.checkpoint.every
    return {
        "val_dataset": local_file(config.evaluation.sets[0].path, ".jsonl"),
        "num_generations_eval": config.evaluation.sets[0].samples,
        "eval_strategy": "steps" if every else "no",
        "eval_steps": (every or config.steps) * recipe.minibatches,
        "save_strategy": "steps",
        "save_steps": (saved or config.steps) * recipe.minibatches,
        "save_total_limit": config.checkpoint.keep,
        "logging_steps": 1,
        "output_dir": f"output/{recipe.name}",
    }
