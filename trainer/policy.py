"""The policy: a transformers causal LM with its tokenizer, and the log-probabilities it gives to responses."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.attention import packing_arguments
from trainer.base_model import ensure_base_model
from trainer.config import ModelConfig
from trainer.errors import UserError
from trainer.paths import expanded
from trainer.pretrained import load_pretrained
from trainer.ranks import ALONE, Ranks
from trainer.rollout import Response
from trainer.sharding import shard
from trainer.token_scores import token_scores


@dataclass(frozen=True)
class Policy:
    """Model, tokenizer and what both need to agree on."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    end_tokens: tuple[int, ...]
    pad_token: int
    device: torch.device
    """Where the forward pass runs; offloaded parameters rest elsewhere."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of a response, without special tokens."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)


def load_policy(config: ModelConfig, ranks: Ranks = ALONE) -> Policy:
    """Load `config.path` with float32 master weights, sharded when there are several ranks: rank 0 alone reads them.

    Raises:
        UserError: no model there that can be trained, see `load_pretrained`; on every rank.
    """
    path = str(ensure_base_model()) if config.path == "embedded" else expanded(config.path)
    model, tokenizer = _loaded(path, config, ranks)
    if config.cpu_offload and ranks.size == 1:
        raise UserError("model.cpu_offload = true needs several ranks; start with torchrun, or set it to false")
    if config.activation_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise UserError(
                f"model.activation_checkpointing = true: {type(model).__name__} does not support it; set it to false"
            )
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.scores = MethodType(_scores, model)
    if ranks.size > 1:
        shard(model, config, ranks.device)
    else:
        model.to(ranks.device)
    ends = model.generation_config.eos_token_id if model.generation_config else None
    ends = ends if ends is not None else tokenizer.eos_token_id
    end_tokens = tuple(ends) if isinstance(ends, list) else (ends,)
    if None in end_tokens:
        raise UserError(f"model.path = {path}: the model has no end-of-sequence token; set eos_token_id in its config")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_tokens[0]
    return Policy(model, tokenizer, end_tokens, pad, ranks.device)


def _loaded(path: str, config: ModelConfig, ranks: Ranks) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    dtype, fault, loaded = getattr(torch, config.dtype), None, None
    try:
        loaded = load_pretrained(path, dtype=dtype, weights=ranks.rank == 0)
    except UserError as error:
        fault = str(error)
    if (first := ranks.first_fault(fault)) is not None:
        raise UserError(first[1])
    assert loaded is not None, "no fault"
    return loaded


def micro_batches(lengths: Sequence[int], max_tokens: int, *, ranks: int = 1) -> list[list[int]]:
    """Indices into `lengths`, each list at most `max_tokens` tokens (or one longer sequence), the lists evenly filled.

    The longest sequence goes first, each into the emptiest list; there are as many lists as that takes. Their number is
    a multiple of `ranks`, since sharded layers need every rank to take part; with few sequences some lists are empty.
    """
    least = max(1, -(-sum(lengths) // max_tokens), sum(2 * length > max_tokens for length in lengths))
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    count = -(-least // ranks) * ranks
    while True:
        batches: list[list[int]] = [[] for _ in range(count)]
        filled = [(0, place) for place in range(count)]  # a heap
        for index in longest_first:
            tokens, place = filled[0]
            batches[place].append(index)
            heapq.heapreplace(filled, (tokens + lengths[index], place))
        if all(tokens <= max_tokens or len(batches[place]) == 1 for tokens, place in filled):
            return batches
        count += ranks


def score(
    policy: Policy, responses: Sequence[Response], *, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and entropy of the response tokens under the policy at `temperature`.

    The sequences go through the model packed in one row, without padding.

    Returns:
        log_probs [B, L], entropy [B, L], mask [B, L]; L is the longest response, padding is 0 in all three. With
        gradients enabled log_probs has one, and entropy is left at 0: only what is not trained on is read for it.
    """
    device = policy.device
    lengths = [len(each.prompt) + len(each.tokens) for each in responses]
    counts = torch.tensor([len(each.tokens) for each in responses])
    tokens = torch.from_numpy(np.concatenate([part for each in responses for part in (each.prompt, each.tokens)]))
    ends = torch.tensor(lengths).cumsum(0)
    row = torch.arange(len(responses)).repeat_interleave(counts)
    slot = torch.arange(len(row)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = (ends - counts).repeat_interleave(counts) + slot  # where each response token stands in the packed row
    row, slot, place, tokens = (each.to(device) for each in (row, slot, place, tokens))
    with torch.autocast(device.type, dtype=dtype, enabled=dtype == torch.bfloat16):
        log_probs, entropy = policy.model.scores(
            tokens, place, packing_arguments(policy.model, lengths, device), temperature=temperature
        )
    empty = torch.zeros((len(responses), int(counts.max())), dtype=log_probs.dtype, device=device)

    def padded(values: Tensor) -> Tensor:
        return empty.index_put((row, slot), values)

    return padded(log_probs), padded(entropy), padded(torch.ones_like(entropy))


def _scores(
    model: PreTrainedModel, tokens: Tensor, place: Tensor, packing: dict[str, object], *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Scores of the tokens at `place` [N] of the packed row `tokens` [T]. The model's method, so that FSDP sees it."""
    with _recomputing(model):
        hidden = model.base_model(input_ids=tokens[None], use_cache=False, **packing).last_hidden_state[0]
    # The hidden state before a token predicts it.
    return token_scores(
        hidden[place - 1],
        model.get_output_embeddings().weight,
        tokens[place],
        temperature=temperature,
        wants_entropy=not torch.is_grad_enabled(),
    )


@contextmanager
def _recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Inside, layers with activation checkpointing use it.

    transformers does so in training mode only, in which dropout would be on too: scores before and after an update
    would differ by it. So the layers alone change their mode, and what they are made of does not.
    """
    layers = [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]
    for each in layers:
        each.training = torch.is_grad_enabled()
    try:
        yield
    finally:
        for each in layers:
            each.training = False
