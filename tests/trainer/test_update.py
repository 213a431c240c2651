"""The update: the same gradient however the work is cut, and ratio == 1 before anything moves."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.config import ModelConfig, TrainerConfig
from trainer.errors import TrainingDiverged
from trainer.groups import Batch, minibatches
from trainer.policy import Policy, load_policy, micro_batches
from trainer.problems import Problem
from trainer.ranks import ALONE
from trainer.rollout import Request, TransformersSampler, request_seed
from trainer.update import score_old, update


@pytest.fixture
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


def batch_of(policy: Policy, groups: int = 8, size: int = 4) -> Batch:
    """Sampled responses with made-up rewards: the update does not ask where rewards come from."""
    sampler = TransformersSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    prompts = [tuple(policy.tokenizer(f"{'1' * (1 + g % 5)}+{g}=")["input_ids"]) for g in range(groups)]
    wanted = [Request(prompts[g], request_seed(g, s)) for g in range(groups) for s in range(size)]
    drawn = sampler.sample(wanted, temperature=1.0, top_p=1.0, max_tokens=16)
    advantages = np.random.default_rng(0).standard_normal((groups, size))
    return Batch(
        groups=[drawn[g * size : (g + 1) * size] for g in range(groups)],
        problems=[Problem(f"{g}", str(g)) for g in range(groups)],
        advantages=advantages.tolist(), rewards=advantages.tolist(),
        sampled_batches=1, sampled_tokens=0, sampled_accuracy=0.0, sampled_length=0.0,
    )  # fmt: skip


def run_update(policy: Policy, batch: Batch, config: TrainerConfig) -> tuple[dict[str, float], torch.Tensor]:
    fresh = dataclasses.replace(policy, model=copy.deepcopy(policy.model))
    optimizer = torch.optim.SGD(fresh.model.parameters(), lr=config.optimizer.learning_rate)
    metrics = update(
        fresh,
        ALONE,
        optimizer,
        score_old(fresh, policy if config.fipo.kl_coef else None, ALONE, batch, config),
        config,
        step=1,
    )
    return metrics, torch.cat([p.detach().flatten() for p in fresh.model.parameters()])


def changed(config: TrainerConfig, section: str, **values: object) -> TrainerConfig:
    data = config.model_dump()
    data[section] |= values
    return TrainerConfig.model_validate(data)


def test_ratio_is_exactly_one_on_the_first_minibatch(policy: Policy, small_config: TrainerConfig) -> None:
    metrics, _ = run_update(policy, batch_of(policy), small_config)
    assert metrics["first_minibatch_log_ratio_max"] == 0.0
    assert metrics["policy_kl"] != 0.0  # the second minibatch meets a policy that has moved


def test_micro_batch_split_leaves_the_update_unchanged(policy: Policy, small_config: TrainerConfig) -> None:
    batch = batch_of(policy)
    policy.model.double()
    whole_metrics, whole = run_update(policy, batch, changed(small_config, "optimizer", micro_batch_tokens=100_000))
    for tokens in (1, 70, 333):
        metrics, weights = run_update(policy, batch, changed(small_config, "optimizer", micro_batch_tokens=tokens))
        torch.testing.assert_close(weights, whole, rtol=1e-6, atol=1e-9)
        assert metrics == pytest.approx(whole_metrics, rel=1e-5, abs=1e-7)


def test_order_within_the_minibatch_leaves_the_update_unchanged(policy: Policy, small_config: TrainerConfig) -> None:
    batch = batch_of(policy)
    shuffled = copy.copy(batch)
    object.__setattr__(shuffled, "groups", [group[::-1] for group in batch.groups])
    object.__setattr__(shuffled, "advantages", [row[::-1] for row in batch.advantages])
    torch.testing.assert_close(
        run_update(policy, shuffled, small_config)[1], run_update(policy, batch, small_config)[1], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", 0.3), ("epsilon_f_low", 0.0), ("epsilon_f_high", 0.0), ("clip_high", 0.01), ("clip_low", 0.01),
     ("filtering", False), ("safety_threshold", 1.0), ("dual_clip", 1.1), ("aggregation", "seq-mean-token-sum"),
     ("kl_coef", 1.0)],
)  # fmt: skip
def test_every_fipo_field_reaches_the_weights(
    policy: Policy, small_config: TrainerConfig, name: str, value: object
) -> None:
    batch = batch_of(policy)
    base = changed(small_config, "fipo", dual_clip=1.5, epsilon_f_low=0.9, epsilon_f_high=3.0, safety_threshold=1.3)
    base = changed(base, "optimizer", learning_rate=1.0)
    assert not torch.equal(
        run_update(policy, batch, base)[1], run_update(policy, batch, changed(base, "fipo", **{name: value}))[1]
    )


def test_a_loss_that_is_not_finite_names_its_step(policy: Policy, small_config: TrainerConfig) -> None:
    batch = batch_of(policy)
    batch.advantages[0][0] = float("nan")
    before = torch.cat([p.detach().flatten().clone() for p in policy.model.parameters()])
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=1.0)
    old = score_old(policy, None, ALONE, batch, small_config)
    with pytest.raises(TrainingDiverged, match=r"loss is not finite at step 7"):
        update(policy, ALONE, optimizer, old, small_config, step=7)
    assert torch.equal(before, torch.cat([p.detach().flatten() for p in policy.model.parameters()]))


def test_micro_batches_hold_every_sequence_once_within_the_limit() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, size=100).tolist()
    batches = micro_batches(lengths, 120)
    assert sorted(i for b in batches for i in b) == list(range(100))
    assert all(sum(lengths[i] for i in b) <= 120 for b in batches)


def test_a_short_batch_keeps_the_number_of_optimizer_steps(policy: Policy, small_config: TrainerConfig) -> None:
    assert [len(m) for m in minibatches(batch_of(policy, groups=5), small_config)] == [3, 2]
    assert minibatches(batch_of(policy, groups=1), small_config) == [[0]]
