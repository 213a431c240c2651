"""The policy update of one training step: old log-probabilities first, then one optimizer step per minibatch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from trainer.config import FipoConfig, TrainerConfig
from trainer.errors import TrainingDiverged
from trainer.groups import Batch, minibatches
from trainer.losses import LossSum, fipo_loss_sum, future_kl, reference_kl_sum
from trainer.policy import Policy, micro_batches, score
from trainer.ranks import Ranks
from trainer.rollout import Response


@dataclass(frozen=True)
class MicroBatch:
    """Responses that go through the model together. The same split serves both passes: only then is ratio == 1."""

    responses: Sequence[Response]
    advantages: Tensor
    """[B, 1], or [B, L] with truncated importance sampling."""
    old_log_probs: Tensor
    """[B, L]"""
    mask: Tensor
    """[B, L]"""
    reference_log_probs: Tensor | None
    """[B, L] under the base model; None while `fipo.kl_coef` is 0."""


@dataclass(frozen=True)
class OldScores:
    """The batch under the policy that sampled it."""

    minibatches: list[list[MicroBatch]]
    metrics: dict[str, float]
    """Means over response tokens: `entropy` in nats; `rollout_gap/mean`, |log-prob here - log-prob in the rollout|,
    with its `max`, and the `std` of the signed gap;
    `future_kl/noise_floor`, the |FutureKL| that this gap alone makes, without any update (both 0 in exact arithmetic);
    `advantage/length_weighted_mean` (paper Figure 4c)."""


def score_old(
    policy: Policy, reference: Policy | None, ranks: Ranks, batch: Batch, config: TrainerConfig, *, step: int
) -> OldScores:
    """Recompute the log-probabilities of this rank's responses with the training model, before anything moves.

    Args:
        reference: the base model, when the loss has a KL term.

    Raises:
        TrainingDiverged: a log-probability, here or in the rollout, is not finite.
    """
    temperature, dtype = config.rollout.temperature, getattr(torch, config.model.dtype)
    result: list[list[MicroBatch]] = []
    totals: dict[str, float] = defaultdict(float)
    largest_gap, fault = 0.0, None
    for groups in minibatches(batch, config):
        responses = [one for group in groups for one in batch.groups[group]]
        advantages = [value for group in groups for value in batch.advantages[group]]
        lengths = [len(one.prompt) + len(one.tokens) for one in responses]
        parts = []
        for own in ranks.share(micro_batches(lengths, config.optimizer.micro_batch_tokens, ranks=ranks.size)):
            rows = own or [0]  # a rank without work runs along with nothing that counts
            chosen = [responses[row] for row in rows]
            with torch.no_grad():
                old, entropy, mask = score(policy, chosen, temperature=temperature, dtype=dtype)
                base = None
                if reference is not None:
                    base, _, _ = score(reference, chosen, temperature=temperature, dtype=dtype)
            mask = mask * bool(own)
            advantage = torch.tensor([[advantages[row]] for row in rows], dtype=old.dtype, device=policy.device)
            rollout = _rollout_log_probs(chosen, old)
            for name, values in (("log-prob", old), ("rollout log-prob", rollout)):
                fault = fault or (None if values.isfinite().all() else name)
            gap = (old - rollout) * mask
            floor = future_kl(gap, mask, gamma=config.fipo.discount) * mask
            _add(
                totals,
                tokens=mask,
                entropy=entropy * mask,
                gap=gap,
                absolute_gap=gap.abs(),
                squared_gap=gap.double().square(),
                floor=floor.abs(),
                advantage=advantage * mask,
            )
            largest_gap = max(largest_gap, float(gap.abs().max()))
            if config.rollout.importance_cap is not None:
                # The loss is linear in the advantage, so this weighs each token's loss, clips and all.
                advantage = advantage * gap.exp().clamp(max=config.rollout.importance_cap)
            parts.append(MicroBatch(chosen, advantage, old, mask, base))
        result.append(parts)
    totals = ranks.sum(totals | {"faults": float(fault is not None)})
    if totals["faults"]:
        raise _diverged(step, ranks, fault, "log-prob")
    means = {name: value / max(totals["tokens"], 1.0) for name, value in totals.items()}
    metrics = {
        "entropy": means["entropy"],
        "rollout_gap/mean": means["absolute_gap"],
        "rollout_gap/max": ranks.largest(largest_gap),
        "rollout_gap/std": math.sqrt(max(means["squared_gap"] - means["gap"] ** 2, 0.0)),
        "future_kl/noise_floor": means["floor"],
        "advantage/length_weighted_mean": means["advantage"],
    }
    return OldScores(result, metrics)


def _add(totals: dict[str, float], **values: Tensor) -> None:
    for name, value in values.items():
        totals[name] += float(value.sum())


def _rollout_log_probs(responses: Sequence[Response], like: Tensor) -> Tensor:
    table = torch.zeros_like(like)
    for row, response in enumerate(responses):
        table[row, : len(response.log_probs)] = torch.from_numpy(response.log_probs)
    return table


def update(
    policy: Policy, ranks: Ranks, optimizer: torch.optim.Optimizer, old: OldScores, config: TrainerConfig, *, step: int
) -> dict[str, float]:
    """One optimizer step per minibatch.

    Returns:
        Means over the step, by the names of `metrics.jsonl`.

    Raises:
        TrainingDiverged: a log-prob, the loss or the gradient is not finite. That minibatch is not applied; those
            before it in the step have been.
    """
    totals: dict[str, float] = defaultdict(float)
    losses, norms, first_gap = [], [], 0.0
    smallest, largest = float("inf"), float("-inf")
    for index, minibatch in enumerate(old.minibatches):
        optimizer.zero_grad(set_to_none=True)
        loss_sum, count, fault = 0.0, 0.0, None
        for part in minibatch:
            log_probs, loss = _loss(policy, part, config)
            # The sum is differentiated, and the gradient divided below by the count of the whole minibatch over all
            # ranks: it does not depend on how the minibatch was cut.
            loss.total.backward()
            loss_sum, count = loss_sum + float(loss.total.detach()), count + float(loss.count)
            if not log_probs.isfinite().all():
                fault = fault or "log-prob"
            if index == 0:
                first_gap = max(first_gap, float((log_probs - part.old_log_probs).abs().max()))
            _add(totals, **loss.sums)
            smallest = min(smallest, float(loss.smallest_weight))
            largest = max(largest, float(loss.largest_weight))
        if not math.isfinite(loss_sum):
            fault = fault or "loss"
        whole = ranks.sum({"loss": loss_sum, "count": count, "faults": float(fault is not None)})
        if whole["faults"]:  # on every rank at once: one that went ahead alone would wait for the others for ever
            raise _diverged(step, ranks, fault, "loss")
        losses.append(whole["loss"] / max(whole["count"], 1.0))
        norms.append(_clip_gradient(policy, divisor=max(whole["count"], 1.0), limit=config.optimizer.grad_clip))
        if not math.isfinite(norms[-1]):
            raise _diverged(step, ranks, _gradient_fault(policy), "gradient norm")
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    totals = ranks.sum(totals)
    smallest, largest = -ranks.largest(-smallest), ranks.largest(largest)
    tokens, sequences = totals["tokens"], totals["sequences"]
    return {
        "loss": sum(losses) / len(losses),
        "grad_norm": sum(norms) / len(norms),
        "clip_fraction": totals["clipped"] / tokens,
        "dual_clip_fraction": totals["dual_clipped"] / tokens,
        "policy_kl": totals["policy_kl"] / tokens,
        "influence_weight/mean": totals["influence_weight"] / tokens,
        "influence_weight/min": smallest,
        "influence_weight/max": largest,
        "influence_weight/clip_fraction": totals["weights_at_bound"] / tokens,
        "future_kl/mean": totals["future_kl"] / tokens,
        "dropped_sequence_fraction": totals["dropped_sequences"] / sequences,
        "first_minibatch_log_ratio_max": ranks.largest(first_gap),
    }


def _loss(policy: Policy, part: MicroBatch, config: TrainerConfig) -> tuple[Tensor, LossSum]:
    """Log-probs [B, L] of `part` under the policy as it is now, without gradient, and the loss made of them."""
    dtype = getattr(torch, config.model.dtype)
    log_probs, _, _ = score(policy, part.responses, temperature=config.rollout.temperature, dtype=dtype)
    advantages = part.advantages.expand_as(log_probs)
    loss = fipo_loss_sum(log_probs, part.old_log_probs, advantages, part.mask, **loss_settings(config.fipo))
    if part.reference_log_probs is not None:
        divergence = reference_kl_sum(
            log_probs, part.reference_log_probs, loss.kept, aggregation=config.fipo.aggregation
        )
        loss = loss._replace(total=loss.total + config.fipo.kl_coef * divergence)
    return log_probs.detach(), loss


def _clip_gradient(policy: Policy, *, divisor: float, limit: float) -> float:
    """Divide the gradient by `divisor`, clip its norm at `limit`; returns the norm before clipping.

    A gradient that is not finite is left as it is, for `_gradient_fault` to find.
    """
    parameters = [each for each in policy.model.parameters() if each.grad is not None]
    for parameter in parameters:
        parameter.grad.div_(divisor)
    total = torch.nn.utils.get_total_norm([each.grad for each in parameters])
    norm = float(total.full_tensor() if isinstance(total, DTensor) else total)
    if math.isfinite(norm):
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, total)
    return norm


def _diverged(step: int, ranks: Ranks, fault: str | None, otherwise: str) -> TrainingDiverged:
    """What every rank raises: the first rank with a fault and what it found, `otherwise` where none found a place."""
    return TrainingDiverged(step, *(ranks.first_fault(fault) or (0, otherwise)))


def _gradient_fault(policy: Policy) -> str | None:
    """The first parameter in whose gradient this rank holds something that is not finite."""
    for name, parameter in policy.model.named_parameters():
        gradient = parameter.grad
        own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
        if own is not None and not own.isfinite().all():
            return f"gradient of {name}"
    return None


def loss_settings(fipo: FipoConfig) -> dict[str, Any]:
    """The keyword arguments of `trainer.losses.fipo_loss_sum`: the fields of `fipo`, by their own names."""
    return fipo.model_dump(exclude={"half_life", "kl_coef"}) | {"gamma": fipo.discount}
