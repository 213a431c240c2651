"""The numbers of one training step, under the names the paper plots them by, and the time its phases took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from trainer.groups import Batch
from trainer.memory import memory_for
from trainer.records import SetScore


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
    """Wall seconds of the phases of one step, on this rank."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.started = time.perf_counter()
        self.phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to `name`. Out of memory inside, UserError says what to lower."""
        start = time.perf_counter()
        with memory_for(name, rank=self.rank):
            yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - start

    def metrics(self, *, tokens: int) -> dict[str, float]:
        """`seconds/<phase>`, `seconds/step`, and the sampled tokens per second of the step."""
        total = time.perf_counter() - self.started
        seconds = {f"seconds/{name}": value for name, value in self.phases.items()} | {"seconds/step": total}
        return seconds | ({"tokens_per_second": tokens / total} if tokens else {})
