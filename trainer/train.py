"""One training run, as a generator: sample -> score -> advantage -> update -> evaluate, one step after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.evaluate import evaluate_set
from trainer.groups import Batch, ProblemStream, sample_batch
from trainer.policy import Policy, load_policy
from trainer.problems import Problem, load_problems
from trainer.records import Evaluation, SetScore, append_line
from trainer.rollout import Sampler, TransformersSampler
from trainer.update import score_old, update


def train(config: TrainerConfig, directory: Path) -> Iterator[Evaluation]:
    """Train, writing `metrics.jsonl` and `evaluations.jsonl` into `directory`; yield each evaluation once written.

    The base model is evaluated first (step 0), then each set after every `every` steps, and all sets after the last.
    Closing the generator stops the run. The same config, machine and number of ranks give the same numbers.

    Raises:
        UserError: data, model or directory cannot be used.
        TrainingDiverged: a loss or gradient is not finite.
    """
    started = time.monotonic()
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / "metrics.jsonl").exists():
        raise UserError(f"{directory}: already holds a run (metrics.jsonl); give a new directory")

    policy = load_policy(config.model)
    stream = ProblemStream(fitting_problems(config, policy), seed=config.seed)
    sets = {each.name: load_problems(each.path) for each in config.evaluation.sets}
    sampler = TransformersSampler(policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token)
    optimizer = torch.optim.AdamW(
        policy.model.parameters(), lr=config.optimizer.learning_rate, weight_decay=config.optimizer.weight_decay
    )
    tokens = 0
    for step in range(config.steps + 1):
        clock = Clock()
        metrics: dict[str, float] = {"step": step}
        if step > 0:
            with clock.phase("rollout"):
                batch = sample_batch(sampler, stream, policy, config, step=step)
            tokens += batch.sampled_tokens
            metrics |= batch_metrics(batch)
            if batch.groups:
                with clock.phase("score"):
                    old = score_old(policy, batch, config)
                with clock.phase("update"):
                    set_learning_rate(optimizer, config, step)
                    metrics |= update(policy, optimizer, old, config, step=step)
                metrics |= {
                    "entropy": old.entropy,
                    "advantage/length_weighted_mean": old.length_weighted_advantage,
                    "rollout_gap/mean": old.rollout_gap,
                    "future_kl/noise_floor": old.noise_floor,
                    "learning_rate": optimizer.param_groups[0]["lr"],
                }
        with clock.phase("evaluation"):
            scores = evaluate(config, sampler, policy, sets, step)
        for score in scores:
            metrics |= score_metrics(score)
        metrics |= clock.metrics() | {"tokens": tokens}
        if step > 0:
            metrics["tokens_per_second"] = batch.sampled_tokens / max(metrics["seconds/step"], 1e-9)
        append_line(directory / "metrics.jsonl", metrics)
        if scores:
            evaluation = Evaluation(step=step, seconds=time.monotonic() - started, tokens=tokens, scores=tuple(scores))
            append_line(directory / "evaluations.jsonl", evaluation.model_dump(mode="json"))
            yield evaluation


def fitting_problems(config: TrainerConfig, policy: Policy) -> list[Problem]:
    """Training problems whose prompt is not too long. Raises UserError when none is left."""
    problems = load_problems(config.data.train)
    fitting = [each for each in problems if len(policy.encode(each.prompt)) <= config.data.max_prompt_length]
    if not fitting:
        raise UserError(
            f"data.max_prompt_length = {config.data.max_prompt_length}: every one of the {len(problems)} prompts in"
            f" {config.data.train} is longer; raise it"
        )
    return fitting


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainerConfig, step: int) -> None:
    """Linear warm-up over `optimizer.warmup_steps` training steps, then constant."""
    warmup = config.optimizer.warmup_steps
    for group in optimizer.param_groups:
        group["lr"] = config.optimizer.learning_rate * (min(1.0, step / warmup) if warmup else 1.0)


def evaluate(
    config: TrainerConfig, sampler: Sampler, policy: Policy, sets: dict[str, list[Problem]], step: int
) -> list[SetScore]:
    """The scores of the sets that are due at `step`. The set that selects comes first, whenever it is due."""
    return [
        evaluate_set(
            sampler,
            each,
            sets[each.name],
            config=config.evaluation,
            step=step,
            max_tokens=config.rollout.max_response_length,
            encode=policy.encode,
            decode=policy.decode,
        )
        for each in config.evaluation.sets
        if step in (0, config.steps) or (each.every and step % each.every == 0)
    ]


def batch_metrics(batch: Batch) -> dict[str, float]:
    """Lengths and rewards over the responses trained on, as the paper plots them, and the accuracy of all sampled."""
    metrics = {
        "sampled_batches": float(batch.sampled_batches),
        "groups_kept": float(len(batch.groups)),
        "rollout/accuracy": batch.sampled_accuracy,
        "rollout/length_mean": batch.sampled_length,
    }
    if batch.groups:
        responses = [one for group in batch.groups for one in group]
        lengths = [len(one.tokens) for one in responses]
        quantiles = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1])
        names = ("min", "q25", "median", "q75", "max")
        metrics |= {f"response_length/{name}": float(value) for name, value in zip(names, quantiles, strict=True)}
        metrics["response_length/mean"] = float(np.mean(lengths))
        metrics["response_length/truncated"] = float(np.mean([not one.finished for one in responses]))
        metrics["reward/mean"] = float(np.mean(batch.rewards))
    return metrics


def score_metrics(score: SetScore) -> dict[str, float]:
    """An evaluation under the paper's names, for example `aime_2024/avg@32`."""
    return {
        f"{score.name}/avg@{score.samples}": score.accuracy,
        f"{score.name}/cons@{score.samples}": score.cons,
        f"{score.name}/pass@{score.samples}": score.pass_at_k,
        f"{score.name}/length_mean": score.mean_length,
    }


class Clock:
    """Wall seconds of the phases of one step."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to `name`."""
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - start

    def metrics(self) -> dict[str, float]:
        """`seconds/<phase>` and `seconds/step`."""
        return {f"seconds/{name}": value for name, value in self.phases.items()} | {
            "seconds/step": time.perf_counter() - self.started
        }
