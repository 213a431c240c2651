"""The gap between rollout and trainer: measured as it is, and weighed out by truncated importance sampling."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.config import ModelConfig, TrainerConfig
from trainer.groups import Batch
from trainer.policy import Policy, load_policy
from trainer.problems import Problem
from trainer.ranks import ALONE
from trainer.rollout import Request, Response, TransformersSampler, request_seed
from trainer.update import score_old, update


@pytest.fixture
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


def batch_of(policy: Policy, gaps: np.ndarray, scale: np.ndarray | float = 1.0) -> Batch:
    """Eight groups of four whose rollout log-probs are `gaps` [8, 4] below the trainer's, response by response."""
    sampler = TransformersSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    prompts = [tuple(policy.tokenizer(f"{g}+1=")["input_ids"]) for g in range(8)]
    wanted = [Request(prompts[g], request_seed(g, s)) for g in range(8) for s in range(4)]
    drawn = sampler.sample(wanted, temperature=1.0, top_p=1.0, max_tokens=10)
    shifted: list[Response] = [
        dataclasses.replace(one, log_probs=(one.log_probs - gap).astype(np.float32))
        for one, gap in zip(drawn, gaps.ravel(), strict=True)
    ]
    advantages = np.random.default_rng(0).standard_normal((8, 4)) * scale
    return Batch(
        groups=[shifted[g * 4 : g * 4 + 4] for g in range(8)],
        problems=[Problem(str(g), str(g)) for g in range(8)],
        advantages=advantages.tolist(), rewards=advantages.tolist(),
        sampled_batches=1, sampled_tokens=0, sampled_accuracy=0.0, sampled_length=0.0,
    )  # fmt: skip


def updated(policy: Policy, batch: Batch, config: TrainerConfig) -> torch.Tensor:
    fresh = dataclasses.replace(policy, model=copy.deepcopy(policy.model))
    optimizer = torch.optim.SGD(fresh.model.parameters(), lr=1.0)
    update(fresh, ALONE, optimizer, score_old(fresh, None, ALONE, batch, config), config, step=1)
    return torch.cat([p.detach().flatten() for p in fresh.model.parameters()])


def capped(config: TrainerConfig, cap: float | None) -> TrainerConfig:
    data = config.model_dump()
    data["rollout"]["importance_cap"] = cap
    return TrainerConfig.model_validate(data)


def test_mean_max_and_spread_are_those_of_the_tokens(policy: Policy, small_config: TrainerConfig) -> None:
    gaps = np.random.default_rng(1).normal(size=(8, 4))
    batch = batch_of(policy, gaps)
    lengths = [len(one.tokens) for group in batch.groups for one in group]
    tokens = np.repeat(gaps.ravel(), lengths)
    metrics = score_old(policy, None, ALONE, batch, small_config).metrics
    assert metrics["rollout_gap/mean"] == pytest.approx(np.abs(tokens).mean(), rel=1e-4)
    assert metrics["rollout_gap/max"] == pytest.approx(np.abs(tokens).max(), rel=1e-4)
    assert metrics["rollout_gap/std"] == pytest.approx(tokens.std(), rel=1e-4)


def test_importance_weights_are_the_truncated_ratio(policy: Policy, small_config: TrainerConfig) -> None:
    gaps = np.random.default_rng(1).normal(size=(8, 4))
    weighed = updated(policy, batch_of(policy, gaps), capped(small_config, 1.5))
    by_hand = updated(policy, batch_of(policy, gaps, scale=np.minimum(np.exp(gaps), 1.5)), small_config)
    torch.testing.assert_close(weighed, by_hand, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(weighed, updated(policy, batch_of(policy, gaps), small_config), rtol=1e-3, atol=1e-4)


def test_without_a_gap_the_weights_are_one(policy: Policy, small_config: TrainerConfig) -> None:
    batch = batch_of(policy, np.zeros((8, 4)))
    torch.testing.assert_close(
        updated(policy, batch, capped(small_config, 2.0)), updated(policy, batch, small_config), rtol=1e-4, atol=1e-5
    )
