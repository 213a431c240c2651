"""The FIPO policy loss and the quantities it is made of, as pure functions.

FIPO: arXiv 2603.19835. DAPO: arXiv 2503.14476. Dual clip: arXiv 1912.09729.
Shapes: B sequences, L response tokens, padded; `mask` is 1 on response tokens and 0 elsewhere.
Where the authors' code and the paper differ, this follows the code, and says so.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from trainer.config import Aggregation

LOG_RATIO_LIMIT = 20.0  # exp(20) is still finite in float32; the authors clamp at the same value
SCAN_BLOCK = 128


def future_kl(log_ratio: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """FutureKL_t = sum_{k >= t} M_k gamma^(k-t) log_ratio_k (paper eq. 7 and 8), for every t.

    Args:
        log_ratio: [B, L], log pi_theta - log pi_old of the sampled token.
        mask: [B, L], M: 1 on tokens that take part in the sum.
        gamma: discount per token in [0, 1]; 2^(-1/tau) for a half-life of tau tokens.

    Returns:
        [B, L], same dtype. Time and memory O(B L), without a loop over tokens.
    """
    return _discounted_suffix_sum(log_ratio * mask, gamma)


def _discounted_suffix_sum(values: Tensor, gamma: float) -> Tensor:
    """S_t = values_t + gamma S_{t+1}, by blocks: a small triangular matmul inside, the same scan over block starts."""
    batch, length = values.shape
    block = min(length, SCAN_BLOCK)
    if length == 0:
        return values
    offset = torch.arange(block, device=values.device)
    distance = offset[:, None] - offset[None, :]  # [k, t]: k - t, how far the summed token lies ahead
    # Every exponent is >= 0, so nothing overflows, unlike the usual cumsum(gamma^k x) / gamma^t.
    powers = torch.pow(torch.tensor(gamma, dtype=values.dtype, device=values.device), distance.clamp(min=0))
    powers = powers * (distance >= 0)
    if length <= block:
        return values @ powers
    blocks = -(-length // block)
    padded = torch.nn.functional.pad(values, (0, blocks * block - length)).view(batch, blocks, block)
    inside = padded @ powers
    starts = _discounted_suffix_sum(inside[:, :, 0], gamma**block)  # [B, blocks]: S at each block's first token
    following = torch.nn.functional.pad(starts[:, 1:], (0, 1))
    to_block_end = torch.pow(torch.tensor(gamma, dtype=values.dtype, device=values.device), block - offset)
    return (inside + following[:, :, None] * to_block_end).view(batch, -1)[:, :length]


def influence_weights(
    future_kl: Tensor,
    ratio: Tensor,
    advantages: Tensor,
    *,
    epsilon_f_low: float,
    epsilon_f_high: float,
    safety_threshold: float,
) -> Tensor:
    """f_t = clip(exp(FutureKL_t), 1 - epsilon_f_low, 1 + epsilon_f_high) (paper eq. 9), [B, L], without gradient.

    A token with negative advantage and ratio above `safety_threshold` gets a weight in [0.8, 1]: the authors' code
    clamps there, the paper writes 1. Equal bounds of 0 give weights of exactly 1, which is DAPO.
    """
    weights = future_kl.detach().exp().clamp(1.0 - epsilon_f_low, 1.0 + epsilon_f_high)
    unsafe = (advantages < 0) & (ratio.detach() > safety_threshold)
    return torch.where(unsafe, weights.clamp(0.8, 1.0), weights)


class LossSum(NamedTuple):
    """A loss before its division, so that micro-batches and ranks can be added up exactly."""

    total: Tensor
    """Scalar with gradient; the loss is `total / count`, both summed over the whole minibatch."""
    count: Tensor
    """Scalar: kept tokens (token-mean) or kept sequences (seq-mean-*)."""
    sums: dict[str, Tensor]
    """Scalars without gradient: response tokens, those clipped, dual-clipped and with a weight at a bound; the sums
    over them of weight, FutureKL and log pi_old - log pi_theta; sequences, and those dropped."""
    smallest_weight: Tensor
    largest_weight: Tensor
    weights: Tensor
    """[B, L] influence weights, for reading."""
    kept: Tensor
    """[B, L] mask of the tokens that are in the loss."""


def fipo_loss_sum(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    epsilon_f_low: float,
    epsilon_f_high: float,
    safety_threshold: float,
    clip_low: float,
    clip_high: float,
    dual_clip: float,
    filtering: bool,
    aggregation: Aggregation,
) -> LossSum:
    """The FIPO loss (paper eq. 10): the dual-clip PPO surrogate with advantages times the influence weights.

    No number has a default: `trainer.config.FipoConfig` holds them.
    DAPO is `epsilon_f_low = epsilon_f_high = 0`; GRPO is that with `clip_low = clip_high`.
    A sequence with more than one dual-clipped token is left out, as in the authors' code.

    Args:
        log_probs: [B, L], log pi_theta of the sampled tokens, with gradient.
        old_log_probs: [B, L], the same under the policy that sampled them.
        advantages: [B, L] (a group-normalised reward repeated over its tokens).
        mask: [B, L], 1 on response tokens.
        gamma, epsilon_f_low, epsilon_f_high, safety_threshold: see `future_kl` and `influence_weights`.
        clip_low, clip_high, dual_clip: ratio clips 1 - clip_low, 1 + clip_high, and c for negative advantages.
        filtering: leave tokens with ratio > dual_clip out of the future KL.
        aggregation: "token-mean" over kept tokens, or the mean over kept sequences of token sums or token means.
    """
    mask = mask.to(log_probs.dtype)
    log_ratio = (log_probs - old_log_probs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio = log_ratio.exp()

    with torch.no_grad():
        takes_part = mask * (ratio <= dual_clip) if filtering else mask
        future = future_kl(log_ratio, takes_part, gamma=gamma)
        weights = influence_weights(
            future,
            ratio,
            advantages,
            epsilon_f_low=epsilon_f_low,
            epsilon_f_high=epsilon_f_high,
            safety_threshold=safety_threshold,
        )
    weighted = advantages * weights

    unclipped = -weighted * ratio
    clipped = -weighted * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    pessimistic = torch.maximum(unclipped, clipped)
    bound = -weighted * dual_clip
    negative = advantages < 0
    token_loss = torch.where(negative, torch.minimum(pessimistic, bound), pessimistic)

    with torch.no_grad():
        dual_clipped = negative * (pessimistic > bound) * mask
        # One token beyond c is cut off; a second one says the sequence has left the old policy, and it is dropped.
        stays = (dual_clipped.sum(1) <= 1).to(mask.dtype)  # [B]
        kept = mask * stays[:, None]
        has_tokens = (mask.sum(1) > 0).to(mask.dtype)
        sums = {
            "tokens": mask.sum(),
            "clipped": ((clipped > unclipped) * mask).sum(),
            "dual_clipped": dual_clipped.sum(),
            "policy_kl": (-log_ratio * mask).sum(),
            "future_kl": (future * mask).sum(),
            "influence_weight": (weights * mask).sum(),
            "weights_at_bound": (((weights <= 1.0 - epsilon_f_low) | (weights >= 1.0 + epsilon_f_high)) * mask).sum(),
            "sequences": has_tokens.sum(),
            "dropped_sequences": (1.0 - stays).sum(),
        }

    # Times 0 leaves a token out: ratios and weights are clamped, so there is no inf * 0.
    total, count = _aggregate(token_loss * kept, kept, aggregation)
    valid = mask > 0
    return LossSum(
        total=total,
        count=count,
        sums=sums,
        smallest_weight=torch.where(valid, weights, torch.inf).amin(),
        largest_weight=torch.where(valid, weights, -torch.inf).amax(),
        weights=weights,
        kept=kept,
    )


def _aggregate(token_values: Tensor, kept: Tensor, aggregation: Aggregation) -> tuple[Tensor, Tensor]:
    """Sum over tokens, or over sequences of token sums or token means, and how many tokens or sequences those are.

    `token_values` is 0 outside `kept`.
    """
    per_sequence, tokens = token_values.sum(1), kept.sum(1)
    sequences = (tokens > 0).to(kept.dtype).sum()
    match aggregation:
        case "token-mean":
            return per_sequence.sum(), tokens.sum()
        case "seq-mean-token-sum":
            return per_sequence.sum(), sequences
        case "seq-mean-token-mean":
            return (per_sequence / tokens.clamp(min=1.0)).sum(), sequences
        case _:
            assert_never(aggregation)


def reference_kl_sum(
    log_probs: Tensor, reference_log_probs: Tensor, kept: Tensor, *, aggregation: Aggregation
) -> Tensor:
    """k3 estimate of KL(policy || reference) of the kept tokens, r - 1 - log r with r = reference / policy.

    Summed like the loss, so that both are divided by the same count. Source: http://joschu.net/blog/kl-approx.html,
    used so in GRPO (arXiv 2402.03300, eq. 4).

    Args:
        log_probs: [B, L], with gradient.
        reference_log_probs: [B, L].
        kept: [B, L], `LossSum.kept`.
    """
    log_r = (reference_log_probs - log_probs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    total, _ = _aggregate((log_r.exp() - 1.0 - log_r) * kept, kept, aggregation)
    return total
