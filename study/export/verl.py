"""The FIPO authors' fork of verl (https://github.com/qwenpilot/FIPO): a launch script of Hydra overrides."""

from __future__ import annotations

from collections.abc import Iterable

from study.export.gaps import (
    Gap,
    half_life,
    no_dropping,
    no_filter_switch,
    no_importance_cap,
    one_batch,
    one_k,
    one_ratio,
    only_aggregation,
)
from study.export.recipe import Machines, Recipe, asks, local_file, require_outside
from study.export.script import hydra, script
from trainer.config import TrainerConfig
from trainer.errors import UserError

ACTOR = "actor_rollout_ref.actor"


def overrides(recipe: Recipe) -> tuple[dict[str, dict[str, object]], list[Gap]]:
    """Hydra keys and values of `recipe`, by heading, and what verl cannot say.

    A key with ``++`` is added or overridden: the fork's dataclass has it and its YAML does not.

    Raises:
        UserError: something of this trainer only, or a path that Hydra would take for a variable.
    """
    require_outside(recipe, "verl")
    config, gaps = recipe.config, []
    for value in (config.model.path, config.data.train, *(each.path for each in config.evaluation.sets)):
        if "${" in value:
            raise UserError(f"--to verl: {value!r} has '${{', which Hydra reads as a variable; rename the path")
    sections = {
        "FIPO loss": _loss(config, gaps),
        "Model": _model(config, recipe.machines, gaps),
        "Data, prompts and lengths": _data(config, gaps),
        "Rollouts and dynamic sampling": _rollout(config, recipe.machines, gaps),
        "Reward": _reward(config),
        "Optimizer": _optimizer(config, recipe.machines),
        "Evaluation, checkpoints, machines": _schedule(recipe, gaps),
    }
    return sections, gaps


def render(recipe: Recipe, header: Iterable[str]) -> tuple[str, list[Gap]]:
    """The launch script and what it does not say exactly."""
    sections, gaps = overrides(recipe)
    data = recipe.config.data
    lines = [
        *header,
        "",
        "Run it in the root of the fork, with Ray up: bash THIS_FILE",
        f"Data in verl's schema (data_source, prompt, reward_model): training problems of {data.train} and the"
        " evaluation sets as parquet files where data.train_files and data.val_files say. data_source names the grader"
        f" (math_dapo reads a line 'Answer: ...'); this recipe asks a bare problem with"
        f" {asks(data.template)}; a row that brings a whole prompt, in this schema, as it is.",
        "A step for which data ran out of informative groups ends verl with an error; here it trained on those.",
        "Token means are taken in each micro-batch there, over the whole minibatch here; all sets are evaluated at the"
        " steps of the first.",
    ]
    quoted = [(title, [hydra(key, value) for key, value in part.items()]) for title, part in sections.items()]
    return script(lines, "python3 -m recipe.dapo.main_dapo", quoted), gaps


AGGREGATIONS = ("token-mean", "seq-mean-token-sum", "seq-mean-token-mean")
"""Its names for what `fipo.aggregation` calls the same."""


def _loss(config: TrainerConfig, gaps: list[Gap]) -> dict[str, object]:
    fipo = config.fipo
    ratio = one_ratio(fipo, gaps, unclipped=True)
    no_importance_cap(config, gaps)
    if ratio is None:
        no_dropping(config, gaps, there="but stays in its DAPO loss", taken="every sequence in the loss")
    loss: dict[str, object] = {f"{ACTOR}.policy_loss.loss_mode": "vanilla" if ratio is None else "future_kl"}
    if ratio is not None:
        no_filter_switch(fipo, gaps)
        loss |= {
            f"++{ACTOR}.policy_loss.decay_rate": half_life(config, gaps),
            f"++{ACTOR}.policy_loss.chunk_size": 128,  # of its matmul; changes speed, not the result
            # As the authors write them; its defaults say the opposite and no code of it reads them.
            f"++{ACTOR}.policy_loss.future_kl_start": "include_current",
            f"++{ACTOR}.policy_loss.future_kl_window": -1,
            f"++{ACTOR}.policy_loss.future_kl_average": False,
            f"++{ACTOR}.policy_loss.future_kl_clip_ratio": ratio[0],
            f"++{ACTOR}.policy_loss.future_kl_clip_high_only": ratio[1],
            f"++{ACTOR}.policy_loss.safety_thresh": fipo.safety_threshold,
        }
    return loss | {
        f"{ACTOR}.clip_ratio_low": fipo.clip_low,
        f"{ACTOR}.clip_ratio_high": fipo.clip_high,
        f"{ACTOR}.clip_ratio_c": fipo.dual_clip,
        f"{ACTOR}.loss_agg_mode": only_aggregation(config, gaps, {each: each for each in AGGREGATIONS}),
        f"{ACTOR}.use_kl_loss": fipo.kl_coef > 0,
        f"{ACTOR}.kl_loss_coef": fipo.kl_coef,
        f"{ACTOR}.kl_loss_type": "low_var_kl",
        f"{ACTOR}.entropy_coeff": 0,
        f"{ACTOR}.ppo_epochs": 1,
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": True,
        "algorithm.use_kl_in_reward": False,
        "algorithm.kl_ctrl.kl_coef": 0.0,
    }


def _model(config: TrainerConfig, machines: Machines, gaps: list[Gap]) -> dict[str, object]:
    model = config.model
    if model.dtype != "bfloat16":
        reason = "its config has no key for the arithmetic of training, which is bfloat16 over float32 weights there"
        gaps.append(Gap(f"model.dtype = {model.dtype}", reason, "bfloat16"))
    offload = model.cpu_offload or machines.offload
    return {
        "actor_rollout_ref.model.path": model.path,
        "actor_rollout_ref.model.enable_gradient_checkpointing": model.activation_checkpointing,
        "actor_rollout_ref.model.use_remove_padding": True,
        "actor_rollout_ref.model.trust_remote_code": False,
        f"{ACTOR}.fsdp_config.param_offload": offload,
        f"{ACTOR}.fsdp_config.optimizer_offload": offload,
        "actor_rollout_ref.ref.fsdp_config.param_offload": offload,
        "actor_rollout_ref.rollout.dtype": "bfloat16",
    }


def _data(config: TrainerConfig, gaps: list[Gap]) -> dict[str, object]:
    if not config.data.chat:
        reason = "every prompt is put into the chat format of the model's tokenizer there"
        bare = "a copy of the model whose chat_template is the bare content of the message"
        gaps.append(Gap("data.chat = False", reason, "the chat format", (bare,)))
    return {
        "data.train_files": local_file(config.data.train, ".parquet"),
        "data.val_files": [local_file(each.path, ".parquet") for each in config.evaluation.sets],
        "data.prompt_key": "prompt",
        "data.max_prompt_length": config.data.max_prompt_length,
        "data.max_response_length": config.rollout.max_response_length,
        "data.filter_overlong_prompts": True,
        "data.truncation": "error",
        "data.train_batch_size": config.rollout.prompts_per_step,
        "data.gen_batch_size": config.rollout.prompts_per_step,
        "data.shuffle": True,
        "++data.seed": config.seed,  # read, but not in its YAML
    }


def _rollout(config: TrainerConfig, machines: Machines, gaps: list[Gap]) -> dict[str, object]:
    rollout = config.rollout
    one_batch(config, gaps, "algorithm.filter_groups.enable=False, which keeps them")
    return {
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": rollout.group_size,
        "actor_rollout_ref.rollout.temperature": rollout.temperature,
        "actor_rollout_ref.rollout.top_p": rollout.top_p,
        "actor_rollout_ref.rollout.top_k": -1,
        "actor_rollout_ref.rollout.do_sample": True,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": machines.engine_gpus,
        "actor_rollout_ref.rollout.gpu_memory_utilization": machines.engine_memory,
        "algorithm.filter_groups.enable": rollout.max_sampled_batches > 1,
        "algorithm.filter_groups.metric": "acc",
        "algorithm.filter_groups.max_num_gen_batches": rollout.max_sampled_batches,
    }


def _reward(config: TrainerConfig) -> dict[str, object]:
    reward = config.reward
    return {
        "reward_model.reward_manager": "dapo",
        "reward_model.overlong_buffer.enable": reward.overlong_buffer > 0,
        "reward_model.overlong_buffer.len": reward.overlong_buffer,
        "reward_model.overlong_buffer.penalty_factor": reward.overlong_penalty,
    }


def _optimizer(config: TrainerConfig, machines: Machines) -> dict[str, object]:
    optimizer = config.optimizer
    # One sequence of full length has to fit.
    tokens = max(optimizer.micro_batch_tokens, config.data.max_prompt_length + config.rollout.max_response_length)
    return {
        f"{ACTOR}.optim.lr": optimizer.learning_rate,
        f"{ACTOR}.optim.warmup_style": optimizer.schedule,
        f"{ACTOR}.optim.lr_warmup_steps": optimizer.warmup_steps,
        f"{ACTOR}.optim.weight_decay": optimizer.weight_decay,
        f"{ACTOR}.grad_clip": optimizer.grad_clip,
        f"{ACTOR}.ppo_mini_batch_size": optimizer.prompts_per_minibatch,
        f"{ACTOR}.use_dynamic_bsz": True,
        f"{ACTOR}.ppo_max_token_len_per_gpu": tokens,
        f"{ACTOR}.ulysses_sequence_parallel_size": machines.sequence_gpus,
        "actor_rollout_ref.ref.ulysses_sequence_parallel_size": machines.sequence_gpus,
        "actor_rollout_ref.rollout.max_num_batched_tokens": tokens,
    }


def _schedule(recipe: Recipe, gaps: list[Gap]) -> dict[str, object]:
    config = recipe.config
    evaluation, checkpoint = config.evaluation, config.checkpoint
    return {
        "actor_rollout_ref.rollout.val_kwargs.n": one_k(config, gaps),
        "actor_rollout_ref.rollout.val_kwargs.do_sample": True,
        "actor_rollout_ref.rollout.val_kwargs.temperature": evaluation.temperature,
        "actor_rollout_ref.rollout.val_kwargs.top_p": evaluation.top_p,
        "actor_rollout_ref.rollout.val_kwargs.top_k": -1,
        "trainer.val_before_train": True,
        "trainer.test_freq": evaluation.sets[0].every or -1,
        "trainer.save_freq": checkpoint.every or -1,
        "trainer.max_actor_ckpt_to_keep": checkpoint.keep,
        "trainer.total_training_steps": config.steps,
        "trainer.total_epochs": config.steps,  # an upper bound: the steps above end the run
        "trainer.nnodes": recipe.machines.nodes,
        "trainer.n_gpus_per_node": recipe.machines.gpus_per_node,
        "trainer.project_name": "FIPO",
        "trainer.experiment_name": recipe.name,
        "trainer.logger": ["console"],
    }
