"""Attention over packed sequences: many sequences in one row, none seeing another, no padding and no T x T mask.

With flash-attn installed on a GPU its varlen kernel is used (through transformers). Elsewhere causal SDPA runs on the
sequences one by one, or on many short ones padded side by side; a block mask would cost the square of the pack.
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from trainer.errors import UserError

NAME, FLASH = "packed_sdpa", "flash_attention_2"
SHORT = 256
"""Up to this many tokens, one padded call for all sequences is cheaper than a call for each (measured on a CPU)."""


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Causal attention within each of the sequences that `sequence_starts` cuts a row into.

    Args:
        query: [1, heads, T, d]; key, value: [1, kv_heads, T, d].
        kwargs: `sequence_starts`, a list 0, n1, n1 + n2, ..., T. Without it (sampling with a cache) plain SDPA runs.

    Returns:
        [1, T, heads, d].

    Raises:
        UserError: the model's attention window is shorter than a sequence.
    """
    starts = kwargs.pop("sequence_starts", None)
    if starts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    window, longest = kwargs.get("sliding_window"), kwargs["max_length_q"]
    if window is not None and longest > window:
        raise UserError(
            f"model.path: its attention reaches {window} tokens back, and a sequence has {longest}; lower"
            " rollout.max_response_length, install flash-attn on a GPU, or choose a model with full attention"
        )
    slots = kwargs["padded_slots"]
    if slots is not None:
        # Padding stands behind each sequence, where causal attention never looks.
        padded = [_spread(each, slots, len(starts) - 1, longest) for each in (query, key, value)]
        out = sdpa_attention_forward(module, *padded, None, **kwargs)[0]
        return out.flatten(0, 1).index_select(0, slots)[None], None
    parts = [
        sdpa_attention_forward(module, *(each[:, :, start:end] for each in (query, key, value)), None, **kwargs)[0]
        for start, end in pairwise(starts)
    ]
    return torch.cat(parts, dim=1), None


def _spread(packed: Tensor, slots: Tensor, rows: int, width: int) -> Tensor:
    """[1, heads, T, d] to [rows, heads, width, d], token t at place `slots[t]` of the rows laid end to end."""
    heads, size = packed.shape[1], packed.shape[3]
    out = packed.new_zeros(rows * width, heads, size).index_copy(0, slots, packed[0].transpose(0, 1))
    return out.view(rows, width, heads, size).transpose(1, 2)


def attention_implementation(dtype: torch.dtype) -> str:
    """The name to load a model with: flash-attn where it can run (not in float32), else `packed_attention`."""
    if torch.cuda.is_available() and dtype == torch.bfloat16 and importlib.util.find_spec("flash_attn"):
        return FLASH
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def packing_arguments(model: PreTrainedModel, lengths: list[int], device: torch.device) -> dict[str, object]:
    """Keyword arguments that tell the forward of `model` where each sequence of a packed row begins.

    Args:
        lengths: tokens of each sequence, in the order of the row.
    """
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    positions = torch.cat([torch.arange(length) for length in lengths])
    edges = torch.tensor(starts, dtype=torch.int32, device=device)
    longest, slots = max(lengths), None
    if longest <= SHORT:
        slots = positions + longest * torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return {
        "position_ids": positions[None].to(device),
        # A mask of four dimensions is passed on as it is, so that transformers builds none of T x T; nobody reads it.
        "attention_mask": None if model.config._attn_implementation == FLASH else torch.empty(1, 1, 1, 1),
        "sequence_starts": starts,
        "padded_slots": None if slots is None else slots.to(device),
        "cu_seq_lens_q": edges,
        "cu_seq_lens_k": edges,
        "max_length_q": longest,
        "max_length_k": longest,
    }
