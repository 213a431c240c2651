"""One rank of `test_vllm.py`: sample, move the policy, sync, sample again, for each width; rank 0 writes the draws.

Arguments: model directory, output file, then a tensor_parallel_size and a port for each round.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from trainer.config import TrainerConfig
from trainer.policy import load_policy
from trainer.ranks import start_ranks
from trainer.rollout import Request, request_seed
from trainer.vllm_rollout import VllmSampler

PROMPTS = 7  # not a multiple of the ranks


def main(model: str, out: str, *rounds: str) -> None:
    """One engine after the other, each with a process group of its own."""
    torch.set_num_threads(1)
    drawn = {}
    for width, port in zip(rounds[::2], rounds[1::2], strict=True):
        os.environ["MASTER_PORT"] = port
        drawn[width] = one_round(model, int(width))
    if os.environ["RANK"] == "0":
        Path(out).write_text(json.dumps(drawn))


def one_round(model: str, width: int) -> dict[str, list]:
    """What all ranks together drew, by the state of the policy and the temperature."""
    config = TrainerConfig.model_validate(
        {"model": {"path": model}, "rollout": {"backend": "vllm", "vllm": {"tensor_parallel_size": width}}}
    )
    with start_ranks(timeout=500) as ranks:
        policy = load_policy(config.model, ranks)
        sampler = VllmSampler(config, policy, ranks)
        requests = [
            Request(tuple(policy.tokenizer(f"{index}+{index * 7}=")["input_ids"]), request_seed(5, index))
            for index in range(PROMPTS)
        ]
        drawn: dict[str, list] = {"prompts": [each.prompt for each in requests]}
        for name in ("first", "moved"):
            sampler.sync()
            for temperature in (0.0, 1.0):
                own = sampler.sample(ranks.share(requests), temperature=temperature, top_p=1.0, max_tokens=24)
                responses = ranks.gather_responses(own, drawn["prompts"])
                drawn[f"{name} {temperature}"] = [one.tokens.tolist() for one in responses]
            sampler.sleep()
            with torch.no_grad():
                for parameter in policy.model.parameters():
                    parameter.mul_(1.3)
        sampler.close()
    return drawn
