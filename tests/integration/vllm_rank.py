"""One rank of `test_vllm.py`: sample, move the policy, sync, sample again, for each width; rank 0 writes what came out.

Arguments: model directory, output file, then a tensor_parallel_size and a port for each round.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from trainer.config import TrainerConfig
from trainer.errors import RankLost, UserError
from trainer.policy import load_policy
from trainer.ranks import start_ranks
from trainer.rollout import Request, request_seed
from trainer.vllm_rollout import StaleWeights, VllmSampler

PROMPTS = 7  # not a multiple of the ranks


def main(model: str, out: str, *rounds: str) -> None:
    """One engine after the other, each with a process group of its own. In the last one rank 1 dies."""
    torch.set_num_threads(1)
    told: dict[str, dict[str, object]] = {}
    for width, port in zip(rounds[::2], rounds[1::2], strict=True):
        os.environ["MASTER_PORT"] = port
        told[width] = {}
        try:
            one_round(model, int(width), told[width], deadly=width == rounds[-2])
        except RankLost as error:
            told[width]["lost"] = str(error)
    if os.environ["RANK"] == "0":
        Path(out).write_text(json.dumps(told))


def one_round(model: str, width: int, told: dict[str, object], *, deadly: bool) -> None:
    """Add to `told` what all ranks together drew, by the state of the policy and the temperature, and a bad sync."""
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
        prompts = [each.prompt for each in requests]
        told["prompts"] = prompts
        for name in ("first", "moved"):
            sampler.sync()
            for temperature in (0.0, 1.0):
                own = sampler.sample(ranks.share(requests), temperature=temperature, top_p=1.0, max_tokens=24)
                responses = ranks.gather_responses(own, prompts)
                told[f"{name} {temperature}"] = [one.tokens.tolist() for one in responses]
            sampler.sleep()
            with torch.no_grad():
                for parameter in policy.model.parameters():
                    parameter.mul_(1.3)
        load = sampler._load
        if ranks.rank == 1:
            sampler._load = lambda weights: (load(weights), sampler._llm.apply_model(spoil))
        try:
            sampler.sync()
        except StaleWeights as error:
            told["stale"] = str(error)
        sampler._load = load
        sampler.sync()
        long_on_rank_1 = [requests[0], Request((2,) * 200, 0)]
        try:
            sampler.sample(ranks.share(long_on_rank_1), temperature=1.0, top_p=1.0, max_tokens=100)
        except UserError as error:
            told["refused"] = str(error)
        ranks.barrier()
        if deadly and ranks.rank == 1:
            os._exit(0)  # as if killed: no other rank is told
        if deadly:
            sampler.sample(ranks.share(requests) * 50, temperature=1.0, top_p=1.0, max_tokens=100)
        sampler.close()


def spoil(model: torch.nn.Module) -> None:
    """One number of one tensor of this rank's engine."""
    list(model.parameters())[-1].data.view(-1)[0] += 1e-3
