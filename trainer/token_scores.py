"""Log-probability and entropy of given tokens from hidden states, without ever holding the [tokens, vocabulary] logits.

At a vocabulary of 152,064 the logits of 8,192 tokens are 5 GB in float32, and log_softmax and its gradient want them
several times. Here rows go through the output layer in chunks, forward and again backward (the logits are made
twice, nothing of them is kept), as in Cut Cross-Entropy (arXiv 2411.09009) and Liger (arXiv 2410.10989).
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**25
"""Logits held at once: 128 MiB in float32."""


class _TokenScores(torch.autograd.Function):
    """d log p(y) / d logit_v = ([v = y] - p_v) / temperature, so a chunk of the backward needs only its own logits."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, rows: int):
        log_probs = torch.empty(len(targets), dtype=_wide(hidden.dtype), device=hidden.device)
        entropy = torch.empty_like(log_probs)
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            logits = _logits(hidden[part], weight, temperature)
            normaliser = logits.logsumexp(-1)
            log_probs[part] = logits.gather(1, targets[part, None]).squeeze(1) - normaliser
            # H = log Z - E[logit]; softmax in place, the logits are not needed again
            expected = torch.linalg.vecdot(torch.exp(logits - normaliser[:, None]), logits)
            entropy[part] = normaliser - expected
        ctx.save_for_backward(hidden, weight, targets)
        ctx.temperature, ctx.rows = temperature, rows
        ctx.mark_non_differentiable(entropy)
        return log_probs, entropy

    @staticmethod
    def backward(ctx, grad_log_probs: Tensor, _grad_entropy: Tensor | None):
        hidden, weight, targets = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=_wide(weight.dtype)) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), ctx.rows):
            part = slice(start, start + ctx.rows)
            grad_logits = _logits(hidden[part], weight, ctx.temperature).softmax(-1).neg_()
            grad_logits.scatter_add_(
                1, targets[part, None], torch.ones_like(targets[part, None], dtype=grad_logits.dtype)
            )
            grad_logits.mul_((grad_log_probs[part] / ctx.temperature)[:, None])
            grad_logits = grad_logits.to(hidden.dtype)
            torch.mm(grad_logits, weight.to(hidden.dtype), out=grad_hidden[part])
            if grad_weight is not None:
                if grad_weight.dtype == hidden.dtype:
                    grad_weight.addmm_(grad_logits.T, hidden[part])
                else:
                    grad_weight += grad_logits.T @ hidden[part]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    logits = hidden @ weight.to(hidden.dtype).T
    logits = logits.to(_wide(logits.dtype))
    return logits if temperature == 1.0 else logits.div_(temperature)


def token_scores(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, temperature: float, chunk_elements: int = CHUNK_ELEMENTS
) -> tuple[Tensor, Tensor]:
    """log softmax(hidden weight^T / temperature)[target], and the entropy of that distribution.

    Args:
        hidden: [T, d], any float dtype; the softmax is taken in float32 (float64 for float64).
        weight: [V, d], the output embedding.
        targets: [T], int64.
        temperature: divides the logits.
        chunk_elements: logits that may exist at once.

    Returns:
        log_probs [T], differentiable in hidden and weight; entropy [T] in nats, without gradient.
    """
    rows = max(1, chunk_elements // weight.shape[0])
    return _TokenScores.apply(hidden, weight, targets, float(temperature), rows)
