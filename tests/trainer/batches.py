"""Training batches with made-up rewards, and what an update makes of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from trainer.config import TrainerConfig
from trainer.groups import Batch
from trainer.policy import Policy
from trainer.problems import Problem
from trainer.ranks import ALONE
from trainer.rollout import Request, Response, TransformersSampler, request_seed
from trainer.update import score_old, update


def sampled_batch(policy: Policy, groups: int = 8, size: int = 4, limit: int = 16) -> Batch:
    """Responses that the policy itself drew; the update does not ask where rewards come from."""
    sampler = TransformersSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    prompts = [tuple(policy.tokenizer(f"{'1' * (1 + g % 5)}+{g}=")["input_ids"]) for g in range(groups)]
    wanted = [Request(prompts[g], request_seed(g, s)) for g in range(groups) for s in range(size)]
    drawn = sampler.sample(wanted, temperature=1.0, top_p=1.0, max_tokens=limit)
    advantages = np.random.default_rng(0).standard_normal((groups, size)).tolist()
    return _batch([drawn[g * size : (g + 1) * size] for g in range(groups)], advantages)


def made_up_batch(seed: int) -> Batch:
    """Four groups of three random responses of 1 to 29 tokens of the 16 that the random policy knows."""
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(4):
        prompt = tuple(rng.integers(2, 16, rng.integers(1, 9)).tolist())
        drawn = [rng.integers(1, 16, rng.integers(1, 30)).astype(np.int32) for _ in range(3)]
        groups.append([Response(prompt, each, np.zeros(len(each), np.float32), True) for each in drawn])
    return _batch(groups, rng.standard_normal((4, 3)).tolist())


def _batch(groups: list[list[Response]], advantages: list[list[float]]) -> Batch:
    return Batch(
        groups=groups, problems=[Problem(str(number), "0") for number in range(len(groups))], advantages=advantages,
        rewards=advantages, sampled_batches=1, sampled_tokens=0, sampled_accuracy=0.0, sampled_length=0.0,
    )  # fmt: skip


def drifted(log_probs: torch.Tensor, responses: Sequence[Response], seed: int) -> torch.Tensor:
    """Old log-probs [B, L] of a policy that has moved since, in places far enough to be clipped or dropped."""
    moved = log_probs.clone()
    for row, response in enumerate(responses):
        rng = np.random.default_rng((seed, *response.tokens.tolist()))
        length = len(response.tokens)
        moved[row, :length] -= torch.from_numpy(0.5 * rng.standard_normal(length)).to(moved.dtype)
    return moved


class Recorder(torch.optim.Optimizer):
    """Keeps the gradient of every optimizer step, whole, and moves nothing."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.model.parameters(), {})
        self.gradients: list[torch.Tensor] = []

    def step(self, closure: None = None) -> None:
        """Keep a copy."""
        each = [p.grad for group in self.param_groups for p in group["params"]]
        whole = [g.full_tensor() if hasattr(g, "full_tensor") else g for g in each]
        self.gradients.append(torch.cat([g.detach().flatten().clone() for g in whole]))


def run_update(policy: Policy, batch: Batch, config: TrainerConfig) -> tuple[dict[str, float], torch.Tensor]:
    """Metrics and weights after an update of a copy of `policy`."""
    fresh = dataclasses.replace(policy, model=copy.deepcopy(policy.model))
    optimizer = torch.optim.SGD(fresh.model.parameters(), lr=config.optimizer.learning_rate)
    old = score_old(fresh, policy if config.fipo.kl_coef else None, ALONE, batch, config, step=1)
    metrics = update(fresh, ALONE, optimizer, old, config, step=1)
    return metrics, torch.cat([p.detach().flatten() for p in fresh.model.parameters()])


def changed(config: TrainerConfig, section: str, **values: object) -> TrainerConfig:
    """`config` with other values in a section."""
    data = config.model_dump()
    data[section] |= values
    return TrainerConfig.model_validate(data)
