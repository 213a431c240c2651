"""TRL's side of `benchmarks.rl_step`: times its GRPOTrainer. Run with the interpreter of TRL's own environment.

Reads the job as JSON from standard input and writes the seconds of each rollout with its updates to the file it names.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Times(TrainerCallback):
    """When each optimizer step ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def on_step_end(self, *arguments: Any, **state: Any) -> None:
        """Called by the trainer."""
        self.ended.append(time.perf_counter())


def right(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """1 for the boxed answer at the end; the cheapest check there is."""
    return [float(each.endswith(f"\\boxed{{{value}}}")) for each, value in zip(completions, answer, strict=True)]


def main() -> None:
    """Train for so many rollouts."""
    job = json.load(sys.stdin)
    torch.set_num_threads(1)
    updates = job["prompts"] // job["prompts_per_minibatch"]
    config = GRPOConfig(
        output_dir=job["output"],
        loss_type="dapo",
        beta=0.0,
        epsilon=job["clip_low"],
        epsilon_high=job["clip_high"],
        num_generations=job["group"],
        per_device_train_batch_size=job["prompts_per_minibatch"] * job["group"],
        gradient_accumulation_steps=1,
        steps_per_generation=updates,
        num_iterations=1,
        max_steps=updates * job["rollouts"],
        max_completion_length=job["max_response_length"],
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        weight_decay=job["weight_decay"],
        max_grad_norm=job["grad_clip"],
        # Its defaults would cost it time here: bfloat16 on a CPU, and every forward pass twice.
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        shuffle_dataset=False,
        report_to="none",
        save_strategy="no",
        logging_steps=updates,
        disable_tqdm=True,
    )
    times = Times()
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        reward_funcs=right,
        args=config,
        train_dataset=Dataset.from_list(job["problems"]),
        callbacks=[times],
    )
    started = time.perf_counter()
    trainer.train()
    rollouts = [started, *times.ended[updates - 1 :: updates]]
    lengths = [each["completions/mean_length"] for each in trainer.state.log_history if "reward" in each]
    told = {
        "seconds": [after - before for before, after in pairwise(rollouts)],
        "mean_length": sum(lengths) / len(lengths),
        "versions": {name: version(name) for name in ("trl", "torch", "transformers")},
    }
    Path(job["told"]).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
