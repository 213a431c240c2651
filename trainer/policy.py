"""The policy: a transformers causal LM with its tokenizer, and the log-probabilities it gives to responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from trainer.base_model import ensure_base_model
from trainer.config import ModelConfig
from trainer.errors import UserError
from trainer.rollout import Response


@dataclass(frozen=True)
class Policy:
    """Model, tokenizer and what both need to agree on."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    end_tokens: tuple[int, ...]
    pad_token: int

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a response, without special tokens."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)


def load_policy(config: ModelConfig) -> Policy:
    """Load `config.path` with float32 master weights.

    Raises:
        UserError: nothing loadable there.
    """
    path = str(ensure_base_model()) if config.path == "embedded" else config.path
    local_only = Path(path).expanduser().exists() or path.startswith((".", "/", "~"))
    if local_only and not (Path(path).expanduser() / "config.json").exists():
        raise UserError(
            f"model.path = {path}: no model there (config.json is missing);"
            " give a directory in Hugging Face format, a hub name, or 'embedded'"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, trust_remote_code=False, attn_implementation="sdpa"
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"model.path = {path}: cannot be loaded ({reason});"
            " give a directory in Hugging Face format, a hub name, or 'embedded'"
        ) from None
    if torch.cuda.is_available():
        model.to("cuda")
    ends = model.generation_config.eos_token_id if model.generation_config else None
    ends = ends if ends is not None else tokenizer.eos_token_id
    end_tokens = tuple(ends) if isinstance(ends, list) else (ends,)
    if None in end_tokens:
        raise UserError(f"model.path = {path}: the model has no end-of-sequence token; set eos_token_id in its config")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_tokens[0]
    return Policy(model, tokenizer, end_tokens, pad)


def micro_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices into `lengths`, similar lengths together, each list at most `max_tokens` padded tokens (or one sequence)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # Sorted from the longest, so the first of a batch sets its padded width.
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def score(
    policy: Policy, responses: Sequence[Response], *, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Log-probabilities and entropy of the response tokens under the policy at `temperature`.

    Returns:
        log_probs [B, L] with gradient (when enabled), entropy [B, L] without, mask [B, L]; L is the longest response,
        padding is 0 in all three.
    """
    device = policy.model.device
    width = max(len(r.prompt) + len(r.tokens) for r in responses)
    tokens = torch.full((len(responses), width), policy.pad_token)
    rows, sources, slots = [], [], []
    for row, response in enumerate(responses):
        whole = response.prompt + response.tokens
        tokens[row, : len(whole)] = torch.tensor(whole)
        first = len(response.prompt) - 1  # the hidden state before a token predicts it
        sources.append(torch.arange(first, first + len(response.tokens)))
        slots.append(torch.arange(len(response.tokens)))
        rows.append(torch.full((len(response.tokens),), row))
    row, source, slot = (torch.cat(each).to(device) for each in (rows, sources, slots))
    tokens = tokens.to(device)

    # Padding stands behind the text and attention is causal: no mask is needed, and none is cheaper.
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        hidden = policy.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        logits = policy.model.get_output_embeddings()(hidden[row, source])
    log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
    chosen = log_p.gather(1, tokens[row, source + 1][:, None]).squeeze(1)
    with torch.no_grad():
        entropy = -(log_p.exp() * log_p).sum(-1)

    shape = (len(responses), max(len(r.tokens) for r in responses))
    empty = torch.zeros(shape, device=device)
    place = (row, slot)
    return (
        empty.index_put(place, chosen),
        empty.index_put(place, entropy),
        empty.index_put(place, torch.ones_like(chosen).detach()),
    )
