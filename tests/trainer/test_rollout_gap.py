"""The gap between rollout and trainer: measured as it is, and weighed out by truncated importance sampling."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.batches import changed, run_update, sampled_batch
from trainer.config import ModelConfig, TrainerConfig
from trainer.groups import Batch
from trainer.policy import Policy, load_policy
from trainer.ranks import ALONE
from trainer.update import score_old


@pytest.fixture
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


def batch_of(policy: Policy, gaps: np.ndarray, scale: np.ndarray | float = 1.0) -> Batch:
    """Eight groups of four whose rollout log-probs are `gaps` [8, 4] below the trainer's, response by response."""
    batch = sampled_batch(policy)
    shifted = [
        [
            dataclasses.replace(one, log_probs=(one.log_probs - gap).astype(np.float32))
            for one, gap in zip(group, row, strict=True)
        ]
        for group, row in zip(batch.groups, gaps, strict=True)
    ]
    return dataclasses.replace(batch, groups=shifted, advantages=(np.array(batch.advantages) * scale).tolist())


def updated(policy: Policy, batch: Batch, config: TrainerConfig) -> torch.Tensor:
    return run_update(policy, batch, changed(config, "optimizer", learning_rate=1.0))[1]


def test_mean_max_and_spread_are_those_of_the_tokens(policy: Policy, small_config: TrainerConfig) -> None:
    gaps = np.random.default_rng(1).normal(size=(8, 4))
    batch = batch_of(policy, gaps)
    lengths = [len(one.tokens) for group in batch.groups for one in group]
    tokens = np.repeat(gaps.ravel(), lengths)
    metrics = score_old(policy, None, ALONE, batch, small_config, step=1).metrics
    assert metrics["rollout_gap/mean"] == pytest.approx(np.abs(tokens).mean(), rel=1e-4)
    assert metrics["rollout_gap/max"] == pytest.approx(np.abs(tokens).max(), rel=1e-4)
    assert metrics["rollout_gap/std"] == pytest.approx(tokens.std(), rel=1e-4)
    advantages = np.repeat(np.ravel(batch.advantages), lengths)
    assert metrics["advantage/length_weighted_mean"] == pytest.approx(advantages.mean(), rel=1e-4)


@pytest.mark.parametrize("half_life", [1.0, 8.0])
def test_the_noise_floor_is_the_future_kl_of_the_gap_alone(
    half_life: float, policy: Policy, small_config: TrainerConfig
) -> None:
    """Token by token from the end, as the paper writes it, at the run's own gamma."""
    gaps = np.random.default_rng(1).normal(size=(8, 4))
    batch = batch_of(policy, gaps)
    floors, gamma = [], 2 ** (-1 / half_life)
    for gap, one in zip(gaps.ravel(), (one for group in batch.groups for one in group), strict=True):
        future = 0.0
        for _ in one.tokens:
            future = gap + gamma * future
            floors.append(abs(future))
    config = changed(small_config, "fipo", half_life=half_life)
    metrics = score_old(policy, None, ALONE, batch, config, step=1).metrics
    assert metrics["future_kl/noise_floor"] == pytest.approx(np.mean(floors), rel=1e-4)


def test_importance_weights_are_the_truncated_ratio(policy: Policy, small_config: TrainerConfig) -> None:
    gaps = np.random.default_rng(1).normal(size=(8, 4))
    weighed = updated(policy, batch_of(policy, gaps), changed(small_config, "rollout", importance_cap=1.5))
    by_hand = updated(policy, batch_of(policy, gaps, scale=np.minimum(np.exp(gaps), 1.5)), small_config)
    torch.testing.assert_close(weighed, by_hand, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(weighed, updated(policy, batch_of(policy, gaps), small_config), rtol=1e-3, atol=1e-4)


def test_without_a_gap_the_weights_are_one(policy: Policy, small_config: TrainerConfig) -> None:
    batch = batch_of(policy, np.zeros((8, 4)))
    weighed = updated(policy, batch, changed(small_config, "rollout", importance_cap=2.0))
    torch.testing.assert_close(weighed, updated(policy, batch, small_config), rtol=1e-4, atol=1e-5)
