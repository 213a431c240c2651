"""One training run, as a generator: sample and give advantages -> score -> update -> evaluate, a step at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

import polars
import torch

from trainer.checkpoint import Position, load_newest, save
from trainer.completions import choose, completions
from trainer.config import TrainerConfig
from trainer.data import evaluation_problems, load_problems
from trainer.errors import UserError
from trainer.evaluate import SetResult, evaluate_due, sets_due, whole
from trainer.groups import ProblemStream, sample_batch
from trainer.memory import gpu_memory, memory_for, wait_for_memory
from trainer.metrics import Clock, batch_metrics, score_metrics
from trainer.policy import Policy, load_policy
from trainer.prompts import fitting, warn_of_lost_text
from trainer.ranks import Ranks, start_ranks
from trainer.records import Evaluation, Journal, Look, run_seconds
from trainer.rollout import Sampler, TransformersSampler
from trainer.update import score_old, update


def train(
    config: TrainerConfig, directory: Path, *, resume: bool = False, races: bool = False
) -> Generator[Evaluation | Look, bool | None, None]:
    """Train, writing metrics, evaluations and their outcomes into `directory`; yield each evaluation once written.

    The base model is evaluated first (step 0), then each set after every `every` steps, and all sets after the last.
    Closing the generator stops the run. The same config, machine and number of ranks give the same numbers, also
    when the run was cut and resumed. Under torchrun every rank calls this, and every rank is given the evaluations.

    Args:
        config: the run.
        directory: where it is written, and where its checkpoints lie.
        resume: go on from the newest checkpoint in `directory`, yielding the evaluations up to there again; without
            a checkpoint start over. When false, a directory that holds a run is refused.
        races: also yield a `Look` after each part of an evaluation whose set has a `first_look`, and draw no more when
            True is sent back. All ranks must be sent the same.

    Raises:
        UserError: data, model or directory cannot be used.
        TrainingDiverged: a loss, gradient or log-prob is not finite.
        RankLost: another rank died or did not answer within `rank_timeout`.
    """
    if not resume and (directory / "metrics.jsonl").exists():
        raise UserError(f"{directory}: already holds a run (metrics.jsonl); give a new directory, or resume it")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    with start_ranks(timeout=config.rank_timeout) as ranks, ExitStack() as resources:
        yield from _train(config, directory, ranks, resources, races)


def _train(
    config: TrainerConfig, directory: Path, ranks: Ranks, resources: ExitStack, races: bool
) -> Generator[Evaluation | Look, bool | None, None]:
    wait_for_engine_room(config, ranks)
    with memory_for("model", rank=ranks.rank):
        policy = load_policy(config.model, ranks)
        reference = load_policy(config.model, ranks) if config.fipo.kl_coef else None
    training = fitting(load_problems(config.data.train), policy, config)
    stream, sets = ProblemStream(training, seed=config.seed), evaluation_problems(config)
    for name, problems in ((config.data.train, training), *sets.items()):
        warn_of_lost_text(name, problems, policy.tokenizer, config.data)
    with memory_for("sync", rank=ranks.rank):
        sampler = resources.enter_context(closing(start_sampler(config, policy, ranks)))
    optimizer = torch.optim.AdamW(
        policy.model.parameters(), lr=config.optimizer.learning_rate, weight_decay=config.optimizer.weight_decay
    )
    journal = Journal(directory, writes=ranks.rank == 0)
    reached = load_newest(journal.checkpoints, policy, optimizer, ranks)
    tokens, seconds = 0, run_seconds(directory)  # before the rewind: what is trained again took its time all the same
    for known in journal.rewind(reached.step if reached else -1):  # noqa: UP028 - nothing can be sent into a list
        yield known
    if reached:
        stream.position, tokens, seconds = reached.problems_taken, reached.tokens, max(seconds, reached.seconds)
    with memory_for("sync", rank=ranks.rank):
        sampler.sync()
    started = time.monotonic() - seconds
    for step in range(reached.step + 1 if reached else 0, config.steps + 1):
        clock = Clock(ranks.rank)
        metrics: dict[str, float] = {"step": step}
        sampled, evaluation = 0, None
        if step > 0:
            with clock.phase("rollout"):
                batch = sample_batch(sampler, stream, policy, ranks, config, step=step)
            sampler.sleep()
            sampled = batch.sampled_tokens
            tokens += sampled
            metrics |= batch_metrics(batch)
            if batch.groups:
                with clock.phase("score"):
                    old = score_old(policy, reference, ranks, batch, config, step=step)
                    keeps = config.evaluation.completions and sets_due(config, step)
                    chosen = choose(policy, batch, config) if keeps else None
                metrics |= old.metrics
                with clock.phase("update"):
                    metrics["learning_rate"] = set_learning_rate(optimizer, config, step)
                    metrics |= update(policy, ranks, optimizer, old, config, step=step)
                if chosen:
                    with clock.phase("score"):
                        table = completions(chosen, policy, batch, config, step=step)
                    journal.write_completions(step, table)
            with clock.phase("sync"):
                sampler.sync()
        with clock.phase("evaluation"):
            racing = races and 0 < step < config.steps
            results = yield from evaluate_due(config, sampler, policy, ranks, sets, step=step, races=racing)
        scores = [each.score for each in results]
        for score in scores:
            metrics |= score_metrics(score)
        seconds = time.monotonic() - started
        metrics |= clock.metrics(tokens=sampled) | {"seconds/total": seconds, "tokens": tokens}
        journal.write_metrics(metrics)
        if scores:
            evaluation = Evaluation(step=step, seconds=seconds, tokens=tokens, scores=tuple(scores))
            journal.write_outcomes(step, polars.concat(each.outcomes for each in results))
            journal.write_evaluation(evaluation)
        if step == config.steps or (config.checkpoint.every and step and step % config.checkpoint.every == 0):
            position = Position(step, stream.position, tokens, seconds)
            save(journal.checkpoints, policy, optimizer, position, ranks, keep=config.checkpoint.keep)
        if evaluation is not None:
            yield evaluation


def takes_vllm(config: TrainerConfig, device: torch.device) -> bool:
    """Whether `rollout.backend` means vllm on this device."""
    backend = config.rollout.backend
    return backend == "vllm" or (backend == "auto" and device.type == "cuda" and find_spec("vllm") is not None)


def wait_for_engine_room(config: TrainerConfig, ranks: Ranks) -> None:
    """Wait, before anything is loaded, until the GPU has room for a vLLM engine. Raises UserError after a minute."""
    if ranks.device.type == "cuda" and takes_vllm(config, ranks.device):
        wait_for_memory(config.rollout.vllm.gpu_memory_utilization, lambda: gpu_memory(ranks.device))


def start_sampler(config: TrainerConfig, policy: Policy, ranks: Ranks) -> Sampler:
    """The sampler that `rollout.backend` names. Raises UserError when it cannot be used here."""
    if takes_vllm(config, policy.device):
        from trainer.vllm_rollout import VllmSampler  # optional, and seconds to import

        return VllmSampler(config, policy, ranks)
    return TransformersSampler(
        policy.model,
        end_tokens=policy.end_tokens,
        pad_token=policy.pad_token,
        device=policy.device,
        dtype=getattr(torch, config.model.dtype),
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainerConfig, step: int) -> float:
    """Linear warm-up over `optimizer.warmup_steps` training steps, then `optimizer.schedule`; returns the rate.

    The cosine would be 0 one step after the last, so that every step trains, as transformers counts it. Its warm-up
    begins at a rate of 0 and is a step later; here the first step trains too.

    Args:
        step: training step, from 1.
    """
    settings = config.optimizer
    rate = settings.learning_rate
    match settings.schedule:
        case _ if step <= settings.warmup_steps:
            rate *= step / settings.warmup_steps
        case "constant":
            pass
        case "cosine":
            done = (step - 1 - settings.warmup_steps) / (config.steps - settings.warmup_steps)
            rate *= 0.5 * (1 + math.cos(math.pi * done))
        case _:
            assert_never(settings.schedule)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def evaluate_model(config: TrainerConfig) -> list[SetResult]:
    """Score `config.model` on every evaluation set, without training.

    Raises:
        UserError: model or data cannot be used.
    """
    torch.set_num_threads(config.threads)
    with start_ranks(timeout=config.rank_timeout) as ranks, ExitStack() as resources:
        wait_for_engine_room(config, ranks)
        with memory_for("model", rank=ranks.rank):
            policy = load_policy(config.model, ranks)
        sets = evaluation_problems(config)
        for name, problems in sets.items():
            warn_of_lost_text(name, problems, policy.tokenizer, config.data)
        with memory_for("sync", rank=ranks.rank):
            sampler = resources.enter_context(closing(start_sampler(config, policy, ranks)))
            sampler.sync()
        with memory_for("evaluation", rank=ranks.rank):
            return whole(evaluate_due(config, sampler, policy, ranks, sets, step=0))
