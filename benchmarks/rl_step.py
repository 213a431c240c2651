"""One RL step of the tiny recipe on a CPU (rollout, score, update), against TRL's GRPOTrainer with loss_type dapo.

    python -m benchmarks.rl_step                        # 3 rounds of 4 steps of each
    python -m benchmarks.rl_step --rounds 5 --steps 8

The same on both sides: the embedded base model in float32, 16 prompts of the training sums in the same order, 8
responses to each of at most 64 tokens at temperature 1, a reward for the right boxed answer, old log-probabilities
recomputed once per rollout, 4 optimizer steps of 4 prompts, AdamW, clips of 0.2 and 0.28, no KL term, one thread.

In TRL's terms that is per_device_train_batch_size 32, steps_per_generation 4, gradient_accumulation_steps 1 and
num_iterations 1: it generates the 128 responses of four steps at once, scores them once (generation is not aligned with
accumulation, so it must), shuffles, and makes one optimizer step of each quarter. Its defaults of bfloat16 and gradient
checkpointing are switched off, which is faster here, and its reward is a comparison of strings. It has no FutureKL, and
it trains on groups without advantage, which we leave out; so our score and update are timed with every group kept.

TRL lies in an environment of its own, made once under $FIPO_CACHE or ~/.cache/fipo with the torch and transformers that
run ours. A round is a process of each, in turn; its first step does not count. Ours is the wall time from before
sampling to after the last update, TRL's from the end of one rollout's last update to that of the next.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.result import Row, compare, show
from trainer.base_model import ensure_base_model
from trainer.config import TrainerConfig
from trainer.groups import ProblemStream, sample_batch
from trainer.policy import load_policy
from trainer.problems import embedded_problems
from trainer.ranks import ALONE
from trainer.train import start_sampler
from trainer.update import score_old, update

PINNED = {"trl": "1.16.0", "torch": version("torch").split("+")[0], "transformers": version("transformers")}


def trl_python() -> Path:
    """The interpreter of an environment with TRL, made if it is not there."""
    root = Path(os.environ.get("FIPO_CACHE") or "~/.cache/fipo").expanduser() / "peers"
    directory = root / "-".join(chain.from_iterable(PINNED.items()))
    python = directory / "bin" / "python"
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)  # one that was left half made
        print(f"making TRL's environment at {directory}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        wanted = [f"{name}=={number}" for name, number in PINNED.items()]
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--progress-bar", "off", *wanted], check=True)
        (directory / "complete").touch()
    return python


def ours(steps: int) -> dict[str, float | list[float]]:
    """Seconds of each step, the mean length of a response in tokens, and the seconds of a step's arithmetic alone."""
    torch.set_num_threads(1)
    config = TrainerConfig.model_validate({"steps": steps, "rollout": {"backend": "transformers"}})
    policy = load_policy(config.model)
    sampler = start_sampler(config, policy, ALONE)
    stream = ProblemStream(embedded_problems("embedded:train"), seed=config.seed)
    settings = config.optimizer
    optimizer = torch.optim.AdamW(
        policy.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    seconds, lengths, counter = [], [], FlopCounterMode(display=False)
    for step in range(1, steps + 2):
        started = time.perf_counter()
        with counter if step > steps else nullcontext():
            batch = sample_batch(sampler, stream, policy, ALONE, config, step=step)
            old = score_old(policy, None, ALONE, batch, config, step=step)
            update(policy, ALONE, optimizer, old, config, step=step)
        seconds.append(time.perf_counter() - started)
        lengths.append(batch.sampled_length)
    floor = counter.get_total_flops() / matmul_rate()  # of the last step, which is not timed: counting is slow
    return {"seconds": seconds[:-1], "mean_length": statistics.fmean(lengths), "floor": floor}


def matmul_rate() -> float:
    """Floating-point operations per second of one thread in a matrix product that is large enough."""
    left, right, best = torch.randn(1024, 1024), torch.randn(1024, 1024), float("inf")
    for _ in range(20):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best


def our_steps(steps: int) -> dict[str, float | list[float]]:
    """`ours` in a process of its own, with every group kept."""
    command = [sys.executable, "-m", "benchmarks.rl_step", "--ours", str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def trl_steps(steps: int) -> dict[str, float | list[float]]:
    """`seconds` and `mean_length` of TRL."""
    config = TrainerConfig()
    rollout, settings = config.rollout, config.optimizer
    problems = ProblemStream(embedded_problems("embedded:train"), seed=config.seed).take(
        steps * rollout.prompts_per_step
    )
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "model": str(ensure_base_model()),
            "problems": [{"prompt": each.prompt, "answer": each.answer} for each in problems],
            "prompts": rollout.prompts_per_step,
            "group": rollout.group_size,
            "max_response_length": rollout.max_response_length,
            "prompts_per_minibatch": settings.prompts_per_minibatch,
            "learning_rate": settings.learning_rate,
            "weight_decay": settings.weight_decay,
            "grad_clip": settings.grad_clip,
            "clip_low": config.fipo.clip_low,
            "clip_high": config.fipo.clip_high,
            "rollouts": steps,
            "output": folder,
            "told": f"{folder}/told.json",
        }
        script = Path(__file__).with_name("trl_steps.py")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run(
            [trl_python(), script], check=True, input=json.dumps(job), text=True, stdout=subprocess.DEVNULL,
            env=environment | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        told = json.loads(Path(job["told"]).read_text(encoding="utf-8"))
    for name, number in PINNED.items():
        assert told["versions"][name].split("+")[0] == number, told["versions"]
    return told


def rows(rounds: int = 3, steps: int = 4) -> list[Row]:
    """Median seconds of a step in each round."""
    trl_python()
    told: dict[str, list[dict]] = {"ours": [], "TRL": []}
    for _ in range(rounds):
        for name, run in (("ours", our_steps), ("TRL", trl_steps)):
            told[name].append(run(steps + 1))
    mine, theirs = ([statistics.median(each["seconds"][1:]) for each in runs] for runs in told.values())
    lengths = {name: statistics.fmean(each["mean_length"] for each in runs) for name, runs in told.items()}
    claim = "RL step of the tiny recipe, 128 responses, 4 updates, CPU"
    return [
        compare(
            claim, f"GRPOTrainer of TRL {PINNED['trl']}, dapo", mine, theirs,
            unit="s", ratio="peer / ours", target=">= 5",
            note=", ".join(f"mean response of {name} {length:.1f} tokens" for name, length in lengths.items()),
        ),
        compare(
            claim, "its floating-point operations at the rate of a large matrix product",
            mine, [each["floor"] for each in told["ours"]], unit="s", ratio="ours / peer",
        ),
    ]  # fmt: skip


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a round")
    parser.add_argument("--ours", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        with patch("trainer.groups.informative", lambda correct: np.ones(len(correct), bool)):
            print(json.dumps(ours(options.ours)))
    else:
        show(rows(options.rounds, options.steps))


if __name__ == "__main__":
    main()
