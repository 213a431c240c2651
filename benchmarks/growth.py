"""How cost grows: tokens of a batch, length of a sequence, responses of a rollout, each doubled four times; two ranks.

    python -m benchmarks.growth

The exponent is the slope of a straight line through log(seconds) against log(size), the fastest of several runs at each
size: 1 is proportional growth, below 1 fixed costs are spread over more work, 2 is the square. The embedded base model
on one thread; score and update go through `trainer.update` with random responses, so only their number and length
matter. Two ranks under torchrun, one thread to each: whole training steps of the tiny model, which FSDP only slows, and
score and update of the wider model of `benchmarks.packed`, in which there is something to share.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.future_kl import GAMMA, inputs
from benchmarks.packed import model_directory
from benchmarks.result import Row, compare, show
from trainer.config import ModelConfig, TrainerConfig
from trainer.groups import Batch
from trainer.losses import future_kl
from trainer.policy import Policy, load_policy
from trainer.problems import Problem
from trainer.ranks import ALONE, Ranks, start_ranks
from trainer.records import read_lines
from trainer.rollout import Request, Response, request_seed
from trainer.train import start_sampler
from trainer.update import score_old, update

RUNS = 3
GROUP = 8


def seconds(policy: Policy, responses: int, length: int, ranks: Ranks = ALONE) -> float:
    """Score and update of a batch of random responses of `length` tokens, in two minibatches."""
    rng = np.random.default_rng(0)
    groups = [
        [Response((2, 3, 4), rng.integers(2, 16, length).astype(np.int32), np.zeros(length, np.float32), True)] * GROUP
        for _ in range(responses // GROUP)
    ]
    signs = [[1.0, -1.0] * (GROUP // 2) for _ in groups]
    batch = Batch(
        groups=groups, problems=[Problem("", "")] * len(groups), advantages=signs, rewards=signs, sampled_batches=1,
        sampled_tokens=0, sampled_accuracy=0.5, sampled_length=length,
    )  # fmt: skip
    config = TrainerConfig.model_validate(
        {"rollout": {"prompts_per_step": len(groups)}, "optimizer": {"prompts_per_minibatch": len(groups) // 2}}
    )
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.0)
    started = time.perf_counter()
    update(policy, ranks, optimizer, score_old(policy, None, ranks, batch, config, step=1), config, step=1)
    return time.perf_counter() - started


def rollout_seconds(policy: Policy, responses: int) -> float:
    """Drawing responses to one prompt each, from the embedded base."""
    sampler = start_sampler(TrainerConfig.model_validate({"rollout": {"backend": "transformers"}}), policy, ALONE)
    rng = np.random.default_rng(0)
    sums = ["+".join(map(str, rng.integers(10, 99, 4))) + "=" for _ in range(responses)]
    wanted = [Request(tuple(policy.tokenizer(each)["input_ids"]), request_seed(at)) for at, each in enumerate(sums)]
    started = time.perf_counter()
    sampler.sample(wanted, temperature=1.0, top_p=1.0, max_tokens=64)
    return time.perf_counter() - started


def future_kl_seconds(length: int) -> float:
    """FutureKL of 8 responses."""
    given = inputs(8, length, "cpu")
    started = time.perf_counter()
    for _ in range(10):
        future_kl(*given, gamma=GAMMA)
    return (time.perf_counter() - started) / 10


def exponent(claim: str, sizes: list[int], measure: Callable[[int], float], target: str, note: str) -> Row:
    """A row whose ratio is the exponent; its spread is that of the exponents from one doubling to the next."""
    measure(sizes[0])  # what is loaded on first use
    taken = [min(measure(size) for _ in range(RUNS)) for size in sizes]
    across, up = np.log2(sizes), np.log2(taken)
    slopes = np.diff(up) / np.diff(across)
    slope = float(np.polyfit(across, up, 1)[0])
    points = ", ".join(f"{size:,}: {each:.3g} s" for size, each in zip(sizes, taken, strict=True))
    return Row(
        claim=f"growth of {claim}, {sizes[0]:,} to {sizes[-1]:,}", against="proportional growth", ours=slope, peer=1.0,
        unit="exponent", ratio=slope, spread=(float(slopes.min()), float(slopes.max())), target=target,
        note=f"{note}; {points}",
    )  # fmt: skip


def step_seconds(ranks: int) -> float:
    """Median seconds of rollout, score and update of 32 prompts in a training run of so many ranks."""
    config = {
        "steps": 5,
        "rollout": {"prompts_per_step": 32, "backend": "transformers"},
        "optimizer": {"prompts_per_minibatch": 8},
        "evaluation": {"sets": [{"name": "s", "path": "embedded:select", "samples": 1, "every": None}]},
        "checkpoint": {"every": None},
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        torchrun(ranks, "trainer", str(file), "--out", f"{folder}/run")
        lines = read_lines(Path(folder) / "run" / "metrics.jsonl")
    phases = ("rollout", "score", "update", "sync")
    return statistics.median(sum(line[f"seconds/{each}"] for each in phases) for line in lines if line["step"] > 1)


def wide_seconds(ranks: int) -> float:
    """Score and update of 16 responses of 512 tokens by the wider model."""
    with tempfile.TemporaryDirectory() as folder:
        told = torchrun(ranks, "benchmarks.growth", "--model", model_directory(folder))
    return float(told.splitlines()[-1])


def torchrun(ranks: int, *module: str) -> str:
    """What rank 0 prints."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"]
    return subprocess.run([sys.executable, *launcher, *module], check=True, capture_output=True, text=True).stdout


def of_rank(path: str) -> None:
    """Print the fastest of several runs. What every rank of `wide_seconds` does."""
    torch.set_num_threads(1)
    with start_ranks(timeout=300) as ranks:
        policy = load_policy(ModelConfig(path=path), ranks)
        best = min(seconds(policy, 16, 512, ranks) for _ in range(RUNS))
        if ranks.rank == 0:
            print(best)


def two_ranks(claim: str, measure: Callable[[int], float]) -> Row:
    """Two ranks against one, once each."""
    both, alone = measure(2), measure(1)
    return compare(f"{claim} on 2 ranks, CPU, gloo", "1 rank", [both], [alone], unit="s", ratio="peer / ours")


def rows() -> list[Row]:
    """The four exponents, and how much faster two ranks are than one."""
    torch.set_num_threads(1)
    policy = load_policy(TrainerConfig().model)
    return [
        exponent(
            "score and update by responses of 48 tokens", [32, 64, 128, 256, 512],
            lambda count: seconds(policy, count, 48), "<= 1.1", "more responses are more packs of 4,096 tokens",
        ),
        exponent(
            "score and update by length of 16 responses", [64, 128, 256, 512, 1024],
            lambda length: seconds(policy, 16, length), "<= 1.5", "attention is quadratic, and much in a narrow model",
        ),
        exponent(
            "rollout by responses", [64, 128, 256, 512, 1024],
            lambda count: rollout_seconds(policy, count), "<= 1.0", "each token's forward pass has a fixed cost",
        ),
        exponent(
            "FutureKL by length, B=8", [2**power for power in range(14, 19)],
            future_kl_seconds, "<= 1.1", "a scan of blocks",
        ),
        two_ranks("training step of 256 responses of the tiny model", step_seconds),
        two_ranks("score and update of 16 responses of 512 tokens by a model 256 wide", wide_seconds),
    ]  # fmt: skip


def main() -> None:
    """Print the exponents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        of_rank(options.model)
    else:
        show(rows())


if __name__ == "__main__":
    main()
