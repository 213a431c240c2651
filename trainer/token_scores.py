"""Log-probability and entropy of given tokens from hidden states, without ever holding the [tokens, vocabulary] logits.

At a vocabulary of 152,064 the logits of 8,192 tokens are 5 GB in float32, and log_softmax and its gradient want them
several times. Here rows go through the output layer in chunks, forward and again backward (the logits are made
twice, and but one number a token is kept), as in Cut Cross-Entropy (arXiv 2411.09009) and Liger (arXiv 2410.10989).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**25
"""Logits of a chunk: 128 MiB in float32."""


class _TokenScores(torch.autograd.Function):
    """d log p(y) / d logit_v = ([v = y] - p_v) / temperature, so a chunk of the backward needs only its own logits."""

    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, rows: int, wants_entropy: bool
    ):
        log_probs = torch.empty(len(targets), dtype=_wide(hidden.dtype), device=hidden.device)
        entropy, normalisers = torch.zeros_like(log_probs), torch.empty_like(log_probs)
        used = weight.to(hidden.dtype)
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            logits = _logits(hidden[part], used, temperature)
            log_p = torch.log_softmax(logits, -1)
            log_probs[part] = log_p.gather(1, targets[part, None]).squeeze(1)
            normalisers[part] = logits.gather(1, targets[part, None]).squeeze(1) - log_probs[part]
            if wants_entropy:
                entropy[part] = -torch.linalg.vecdot(torch.exp(log_p, out=logits), log_p)
        ctx.save_for_backward(hidden, weight, targets, normalisers)
        ctx.temperature, ctx.rows = temperature, rows
        ctx.mark_non_differentiable(entropy)
        return log_probs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        grad_log_probs, _ = gradients  # the entropy has none
        hidden, weight, targets, normalisers = ctx.saved_tensors
        used = weight.to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=_wide(weight.dtype)) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), ctx.rows):
            part = slice(start, start + ctx.rows)
            # One table from the logits to their gradient, in place.
            grad_logits = _logits(hidden[part], used, ctx.temperature).sub_(normalisers[part, None]).exp_().neg_()
            ones = torch.ones_like(targets[part, None], dtype=grad_logits.dtype)
            grad_logits.scatter_add_(1, targets[part, None], ones)
            grad_logits.mul_((grad_log_probs[part] / ctx.temperature)[:, None])
            grad_logits = grad_logits.to(hidden.dtype)
            torch.mm(grad_logits, used, out=grad_hidden[part])
            if grad_weight is not None:
                if grad_weight.dtype == hidden.dtype:
                    grad_weight.addmm_(grad_logits.T, hidden[part])
                else:
                    grad_weight += grad_logits.T @ hidden[part]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None, None


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    logits = hidden @ weight.T
    logits = logits.to(_wide(logits.dtype))
    return logits if temperature == 1.0 else logits.div_(temperature)


def token_scores(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float,
    wants_entropy: bool = True,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> tuple[Tensor, Tensor]:
    """log softmax(hidden weight^T / temperature)[target], and the entropy of that distribution.

    Args:
        hidden: [T, d], any float dtype; the softmax is taken in float32 (float64 for float64).
        weight: [V, d], the output embedding.
        targets: [T], int64.
        temperature: divides the logits.
        wants_entropy: zeros stand for the entropy otherwise, which saves a pass over the logits.
        chunk_elements: logits in a chunk; two such tables exist at once.

    Returns:
        log_probs [T], differentiable in hidden and weight; entropy [T] in nats, without gradient.
    """
    rows = max(1, chunk_elements // weight.shape[0])
    return _TokenScores.apply(hidden, weight, targets, float(temperature), rows, wants_entropy)
