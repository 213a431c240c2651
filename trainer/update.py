"""The policy update of one training step: old log-probabilities first, then one optimizer step per minibatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import FipoConfig, TrainerConfig
from trainer.errors import TrainingDiverged
from trainer.groups import Batch, minibatches
from trainer.losses import fipo_loss_sum, future_kl
from trainer.policy import Policy, micro_batches, score
from trainer.rollout import Response


@dataclass(frozen=True)
class MicroBatch:
    """Responses that go through the model together. The same split serves both passes: only then is ratio == 1."""

    responses: Sequence[Response]
    advantages: Tensor
    """[B, 1]"""
    old_log_probs: Tensor
    """[B, L]"""
    mask: Tensor
    """[B, L]"""


@dataclass(frozen=True)
class OldScores:
    """The batch under the policy that sampled it."""

    minibatches: list[list[MicroBatch]]
    entropy: float
    """Mean over response tokens, nats."""
    rollout_gap: float
    """Mean |log-prob in training - log-prob in the rollout| per token."""
    noise_floor: float
    """Mean |FutureKL| that this gap alone would cause, without any update."""
    length_weighted_advantage: float
    """Mean of the advantage over response tokens (paper Figure 4c)."""


def score_old(policy: Policy, batch: Batch, config: TrainerConfig) -> OldScores:
    """Recompute the log-probabilities of every response with the training model, before anything moves."""
    dtype = getattr(torch, config.model.dtype)
    result: list[list[MicroBatch]] = []
    sums = dict.fromkeys(("tokens", "entropy", "gap", "floor", "advantage"), 0.0)
    for groups in minibatches(batch, config):
        responses = [one for group in groups for one in batch.groups[group]]
        advantages = [value for group in groups for value in batch.advantages[group]]
        lengths = [len(one.prompt) + len(one.tokens) for one in responses]
        parts = []
        for rows in micro_batches(lengths, config.optimizer.micro_batch_tokens):
            chosen = [responses[row] for row in rows]
            advantage = torch.tensor([[advantages[row]] for row in rows], device=policy.model.device)
            with torch.no_grad():
                old, entropy, mask = score(policy, chosen, temperature=config.rollout.temperature, dtype=dtype)
            gap = (old - _rollout_log_probs(chosen, old)) * mask
            floor = future_kl(gap, mask, gamma=config.fipo.discount) * mask
            for name, value in (
                ("tokens", mask),
                ("entropy", entropy),
                ("gap", gap.abs()),
                ("floor", floor.abs()),
                ("advantage", advantage * mask),
            ):
                sums[name] += float(value.sum())
            parts.append(MicroBatch(chosen, advantage, old, mask))
        result.append(parts)
    tokens = max(sums["tokens"], 1.0)
    return OldScores(
        minibatches=result,
        entropy=sums["entropy"] / tokens,
        rollout_gap=sums["gap"] / tokens,
        noise_floor=sums["floor"] / tokens,
        length_weighted_advantage=sums["advantage"] / tokens,
    )


def _rollout_log_probs(responses: Sequence[Response], like: Tensor) -> Tensor:
    table = torch.zeros_like(like)
    for row, response in enumerate(responses):
        table[row, : len(response.log_probs)] = torch.from_numpy(response.log_probs)
    return table


def update(
    policy: Policy, optimizer: torch.optim.Optimizer, old: OldScores, config: TrainerConfig, *, step: int
) -> dict[str, float]:
    """One optimizer step per minibatch.

    Returns:
        Means over the step, by the names of `metrics.jsonl`.

    Raises:
        TrainingDiverged: the loss or the gradient is not finite; the weights are left as they were.
    """
    totals: dict[str, float] = {}
    losses, norms, smallest, largest, first_gap = [], [], [], [], 0.0
    tokens = sequences = 0.0
    for index, minibatch in enumerate(old.minibatches):
        optimizer.zero_grad(set_to_none=True)
        total, count = 0.0, 0.0
        for part in minibatch:
            log_probs, _, _ = score(
                policy, part.responses, temperature=config.rollout.temperature, dtype=getattr(torch, config.model.dtype)
            )
            if index == 0:
                first_gap = max(first_gap, float((log_probs.detach() - part.old_log_probs).abs().max()))
            result = fipo_loss_sum(
                log_probs,
                part.old_log_probs,
                part.advantages.expand_as(log_probs),
                part.mask,
                **loss_settings(config.fipo),
            )
            # The sum is differentiated and divided below by the count of the whole minibatch: the gradient does not
            # depend on how the minibatch was cut.
            result.total.backward()
            total, count = total + float(result.total.detach()), count + float(result.count)
            for name, value in result.sums.items():
                totals[name] = totals.get(name, 0.0) + float(value)
            tokens, sequences = tokens + float(result.tokens), sequences + float(result.sequences)
            smallest.append(float(result.smallest_weight))
            largest.append(float(result.largest_weight))
        loss = total / max(count, 1.0)
        if not torch.isfinite(torch.tensor(loss)):
            raise TrainingDiverged(step, "loss")
        for parameter in policy.model.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(max(count, 1.0))
        norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.optimizer.grad_clip)
        if not torch.isfinite(norm):
            raise TrainingDiverged(step, "gradient norm")
        optimizer.step()
        losses.append(loss)
        norms.append(float(norm))
    optimizer.zero_grad(set_to_none=True)
    return {
        "loss": sum(losses) / len(losses),
        "grad_norm": sum(norms) / len(norms),
        "clip_fraction": totals["clip_fraction"] / tokens,
        "dual_clip_fraction": totals["dual_clip_fraction"] / tokens,
        "policy_kl": totals["policy_kl"] / tokens,
        "influence_weight/mean": totals["influence_weight_mean"] / tokens,
        "influence_weight/min": min(smallest),
        "influence_weight/max": max(largest),
        "influence_weight/clip_fraction": totals["influence_weight_clip_fraction"] / tokens,
        "future_kl/mean": totals["future_kl_mean"] / tokens,
        "dropped_sequence_fraction": totals["dropped_sequence_fraction"] / sequences,
        "first_minibatch_log_ratio_max": first_gap,
    }


def loss_settings(fipo: FipoConfig) -> dict[str, object]:
    """The keyword arguments of `trainer.losses.fipo_loss` that a configuration sets."""
    return {
        "gamma": fipo.discount,
        "epsilon_f_low": fipo.epsilon_f_low,
        "epsilon_f_high": fipo.epsilon_f_high,
        "safety_threshold": fipo.safety_threshold,
        "clip_low": fipo.clip_low,
        "clip_high": fipo.clip_high,
        "dual_clip": fipo.dual_clip,
        "filtering": fipo.filtering,
        "aggregation": fipo.aggregation,
    }
