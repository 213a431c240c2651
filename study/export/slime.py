"""slime with FIPO (https://github.com/THUDM/slime/pull/1801): a launch script for its `train.py`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from study.export.gaps import (
    Gap,
    half_life,
    no_dropping,
    no_filter_switch,
    no_importance_cap,
    one_batch,
    one_k,
    only_aggregation,
)
from study.export.recipe import Recipe, asks, local_file, require_outside
from study.export.script import option, script
from trainer.config import TrainerConfig

Arguments = dict[str, object]


def render(recipe: Recipe, header: Iterable[str]) -> tuple[str, list[Gap]]:
    """The launch script and what it does not say exactly. Raises UserError for what only this trainer has."""
    require_outside(recipe, "slime")
    config, gaps = recipe.config, []
    name = config.model.path.rstrip("/").rsplit("/", 1)[-1]
    sections = [
        ("FIPO loss", _options(_loss(config, gaps))),
        ("Model", _options(_model(config, name))),
        ("Data, rollouts and dynamic sampling", _options(_rollout(recipe, gaps))),
        ("Optimizer: iterations are optimizer steps", _options(_optimizer(recipe))),
        ("Evaluation, checkpoints, machines", [*_evaluation(config, gaps), *_options(_schedule(recipe))]),
    ]
    no_dropping(
        config, gaps, there="but its tokens stay in the count that divides the loss there", taken="the larger count"
    )
    lines = [
        *header,
        "",
        "Run it in the root of slime with pull request 1801 merged, with Ray up and Megatron-LM on PYTHONPATH.",
        "MODEL_SCRIPT is the file of scripts/models/ for this architecture; --ref-load its weights as slime's tool"
        " tools/convert_hf_to_torch_dist.py makes them.",
        f"Data as JSONL with the keys problem and answer: {config.data.train} and the evaluation sets where"
        " --prompt-data and --eval-prompt-data say. This recipe asks a bare problem with"
        f" {asks(config.data.template)}; a row that brings a whole prompt, in verl's schema, as it is.",
        "Dynamic sampling compares rewards there and draws without end; here right and wrong count, and at most"
        f" {config.rollout.max_sampled_batches} batches are drawn.",
    ]
    default = shlex.quote(f"scripts/models/{name[:1].lower()}{name[1:]}.sh")
    setup = (
        f"model_script={default}\n"
        "# shellcheck source=/dev/null\n"
        'source "${MODEL_SCRIPT:-$model_script}"  # sets MODEL_ARGS\n'
    )
    return script(lines, 'python3 train.py "${MODEL_ARGS[@]}"', sections, setup=setup), gaps


def _options(values: Arguments) -> list[str]:
    """Arguments; True is a bare flag and False is left out, which is how slime says both."""
    return [f"--{key}" if value is True else option(key, value) for key, value in values.items() if value is not False]


def _loss(config: TrainerConfig, gaps: list[Gap]) -> Arguments:
    fipo = config.fipo
    gaps.append(
        Gap(
            "old log-probabilities of the trainer",
            "its FIPO loss takes those of the rollout engine, whose rounding the future KL adds up",
            "--use-rollout-logprobs",
        )
    )
    # Bounds of 0 are weights of 1 there as here, and then neither of the two decides anything.
    deciding = [] if fipo.is_dapo else gaps
    no_filter_switch(fipo, deciding)
    tau = half_life(config, deciding)
    no_importance_cap(config, gaps)
    if fipo.kl_coef > 0:
        ours = f"fipo.kl_coef = {fipo.kl_coef:g}"
        gaps.append(Gap(ours, "its FIPO loss has no KL term", "none, as fipo.kl_coef = 0"))
    per_token = only_aggregation(config, gaps, {"token-mean": "token", "seq-mean-token-mean": "sequence"}) == "token"
    return {
        "loss-type": "fipo_loss",
        "advantage-estimator": "grpo",
        "use-rollout-logprobs": True,
        "fipo-decay-rate": tau,
        "fipo-clip-ratio-low": fipo.epsilon_f_low,
        "fipo-clip-ratio-high": fipo.epsilon_f_high,
        "fipo-safety-thresh": fipo.safety_threshold,
        "fipo-dual-clip-c": fipo.dual_clip,
        "eps-clip": fipo.clip_low,
        "eps-clip-high": fipo.clip_high,
        "calculate-per-token-loss": per_token,
        "kl-coef": 0.0,  # KL in the reward
        "entropy-coef": 0.0,
    }


def _model(config: TrainerConfig, name: str) -> Arguments:
    model = config.model
    recompute: Arguments = {"recompute-granularity": "full", "recompute-method": "uniform", "recompute-num-layers": 1}
    return {
        "hf-checkpoint": model.path,
        "ref-load": f"models/{name}_torch_dist",
        "bf16": model.dtype == "bfloat16",
        "attention-dropout": 0.0,
        "hidden-dropout": 0.0,
        "accumulate-allreduce-grads-in-fp32": True,
        "attention-softmax-in-fp32": True,
        "optimizer-cpu-offload": model.cpu_offload,
        **(recompute if model.activation_checkpointing else {}),
    }


def _rollout(recipe: Recipe, gaps: list[Gap]) -> Arguments:
    config, rollout = recipe.config, recipe.config.rollout
    one_batch(config, gaps, "no dynamic sampling, which keeps them")
    filters = "slime.rollout.filter_hub.dynamic_sampling_filters.check_reward_nonzero_std"
    # math finds boxed answers, dapo lines "Answer: ..." and gives its scores by name.
    reward: Arguments = {"rm-type": "math"}
    if config.data.template == "answer":
        reward = {"rm-type": "dapo", "reward-key": "score", "eval-reward-key": "acc"}
    if config.reward.overlong_buffer:
        gaps.append(
            Gap(
                f"reward.overlong_buffer = {config.reward.overlong_buffer}",
                "it has no soft overlong penalty but as a custom reward function",
                "no penalty",
            )
        )
    return {
        "prompt-data": local_file(config.data.train, ".jsonl"),
        "input-key": "problem",
        "label-key": "answer",
        "apply-chat-template": config.data.chat,
        "rollout-shuffle": True,
        "rollout-seed": config.seed,
        **reward,
        "num-rollout": config.steps,
        "rollout-batch-size": rollout.prompts_per_step,
        "n-samples-per-prompt": rollout.group_size,
        "rollout-max-prompt-len": config.data.max_prompt_length,
        "rollout-max-response-len": rollout.max_response_length,
        "rollout-temperature": rollout.temperature,
        "rollout-top-p": rollout.top_p,
        "global-batch-size": recipe.samples_per_update,
        **({"dynamic-sampling-filter-path": filters} if rollout.max_sampled_batches > 1 else {}),
    }


def _optimizer(recipe: Recipe) -> Arguments:
    config, optimizer = recipe.config, recipe.config.optimizer
    longest = config.data.max_prompt_length + config.rollout.max_response_length
    return {
        "optimizer": "adam",
        "lr": optimizer.learning_rate,
        "lr-decay-style": optimizer.schedule,
        "lr-warmup-iters": optimizer.warmup_steps * recipe.minibatches,
        "weight-decay": optimizer.weight_decay,
        "adam-beta1": 0.9,
        "adam-beta2": 0.999,
        "clip-grad": optimizer.grad_clip,
        "seed": config.seed,
        "use-dynamic-batch-size": True,
        "max-tokens-per-gpu": max(optimizer.micro_batch_tokens, longest),  # one sequence of full length has to fit
    }


def _evaluation(config: TrainerConfig, gaps: list[Gap]) -> list[str]:
    sets = config.evaluation.sets
    one_k(config, gaps)
    return ["--eval-prompt-data", *(part for each in sets for part in (each.name, local_file(each.path, ".jsonl")))]


def _schedule(recipe: Recipe) -> Arguments:
    config = recipe.config
    evaluation, saved = config.evaluation, config.checkpoint.every
    return {
        "n-samples-per-eval-prompt": max(each.samples for each in evaluation.sets),
        "eval-interval": evaluation.sets[0].every or config.steps,
        "eval-temperature": evaluation.temperature,
        "eval-top-p": evaluation.top_p,
        "eval-max-response-len": config.rollout.max_response_length,
        "save": f"checkpoints/{recipe.name}",
        "save-interval": saved or config.steps,
        "actor-num-nodes": recipe.machines.nodes,
        "actor-num-gpus-per-node": recipe.machines.gpus_per_node,
        "tensor-model-parallel-size": recipe.machines.sequence_gpus,
        "sequence-parallel": recipe.machines.sequence_gpus > 1,
        "context-parallel-size": 1,  # its FIPO loss does not split sequences
        "rollout-num-gpus-per-engine": recipe.machines.engine_gpus,
        "sglang-mem-fraction-static": recipe.machines.engine_memory,
        "colocate": True,
    }
