"""Sampling responses: one small protocol, and a batched KV-cache sampler over any transformers causal LM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.attention import FLASH
from trainer.kv_cache import GrowingCache
from trainer.sharding import gathered

FULL = 0.9
"""Rows that have ended leave the batch when no more than this share of it still runs."""


@dataclass(frozen=True)
class Request:
    """One response to draw. Its seed is its own, so a sample depends on neither batch, order nor rank."""

    prompt: tuple[int, ...]
    seed: int


@dataclass(frozen=True, eq=False)
class Response:
    """What was drawn for a request."""

    prompt: tuple[int, ...]
    tokens: np.ndarray
    """int32; the last one is the end-of-sequence token if the response finished."""
    log_probs: np.ndarray
    """float32; of each token under the sampling distribution at full top-p. NaN where top-p < 1 and the engine knows
    only the truncated distribution."""
    finished: bool
    """False when the response was cut at the length limit."""


class Sampler(Protocol):
    """Draws responses from the policy as it was at the last `sync`. All ranks make the same calls."""

    def sync(self) -> None:
        """Take over the policy's weights as they are now."""
        ...

    def sleep(self) -> None:
        """Give up what training can use; nothing is drawn before the next `sync`."""
        ...

    def sample(
        self, requests: Sequence[Request], *, temperature: float, top_p: float, max_tokens: int
    ) -> list[Response]:
        """One response per request, in the order of the requests."""
        ...

    def close(self) -> None:
        """Give everything up."""
        ...


def request_seed(*parts: int) -> int:
    """A 63-bit seed from the numbers that name a draw, for example (run seed, step, prompt, sample)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class TransformersSampler:
    """Draws with the training model itself, so that there are no weights to copy."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        end_tokens: Sequence[int],
        pad_token: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        max_rows: int = 1024,
    ) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        self.end_tokens = torch.tensor(sorted(set(end_tokens)))
        self.pad_token = pad_token
        self.max_rows = max_rows

    def sync(self) -> None:
        """Nothing to do: it is the same model."""

    def sleep(self) -> None:
        """Nothing to do: there is nothing beside the model."""

    def close(self) -> None:
        """Nothing to do: the model is the trainer's."""

    @torch.no_grad()  # not inference_mode: FSDP keeps what was gathered inside for training
    def sample(
        self, requests: Sequence[Request], *, temperature: float, top_p: float, max_tokens: int
    ) -> list[Response]:
        """See `Sampler.sample`. Requests of similar prompt length share a batch, so that little is padded."""
        order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt))
        responses: dict[int, Response] = {}
        # The arithmetic in which the loss scores what is drawn here.
        with gathered(self.model), torch.autocast(self.device.type, self.dtype, enabled=self.dtype == torch.bfloat16):
            for start in range(0, len(order), self.max_rows):
                rows = order[start : start + self.max_rows]
                drawn = self._sample_batch([requests[row] for row in rows], temperature, top_p, max_tokens)
                responses.update(zip(rows, drawn, strict=True))
        return [responses[index] for index in range(len(requests))]

    def _sample_batch(
        self, requests: list[Request], temperature: float, top_p: float, max_tokens: int
    ) -> list[Response]:
        device = self.device
        end_tokens = self.end_tokens.to(device)
        # A table of uniforms, one row per request: rows that finish can be taken out of the batch without a trace.
        draws = np.stack([np.random.default_rng(r.seed).random(max_tokens, dtype=np.float32) for r in requests])
        uniforms = torch.from_numpy(draws).to(device)
        drawn = torch.full((len(requests), max_tokens), self.pad_token, device=device)
        log_probs = torch.zeros((len(requests), max_tokens), device=device)
        lengths = torch.zeros(len(requests), dtype=torch.long, device=device)  # of those that have ended
        rows = torch.arange(len(requests), device=device)
        running = torch.ones(len(requests), dtype=torch.bool, device=device)
        count = len(requests)

        # A prompt is read once, whatever is drawn from it.
        number: dict[tuple[int, ...], int] = {}
        copies = torch.tensor([number.setdefault(r.prompt, len(number)) for r in requests], device=device)
        tokens, prompt_mask = left_pad(list(number), self.pad_token, device)
        positions = (prompt_mask.cumsum(1) - 1).clamp(min=0)
        padded = not bool(prompt_mask.all())
        cache = GrowingCache(self.model)
        logits = self._logits(tokens, prompt_mask if padded else None, positions, cache)[copies]
        cache.batch_select_indices(copies)
        positions, width = positions[copies, -1:], tokens.shape[1]
        mask = torch.ones((len(requests), width + max_tokens), dtype=torch.bool, device=device)
        mask[:, :width] = prompt_mask[copies]
        for step in range(max_tokens):
            log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
            token = draw(log_p, uniforms[rows, step], top_p)
            drawn[rows, step] = token
            log_probs[rows, step] = log_p.gather(1, token[:, None]).squeeze(1)
            ended = running & torch.isin(token, end_tokens)
            ends = int(ended.sum())
            if ends:
                lengths[rows[ended]] = step + 1
                running = running & ~ended
                count -= ends
            if count == 0 or step + 1 == max_tokens:
                break
            if count <= FULL * len(rows):
                # The last rows move to where others have ended, so that little of the cache is copied.
                places = (~running[:count]).nonzero().squeeze(1)
                sources = count + running[count:].nonzero().squeeze(1)
                cache.shrink(count, places, sources)
                for each in (rows, token, positions, mask):
                    each[places] = each[sources]
                rows, token, positions, mask = rows[:count], token[:count], positions[:count], mask[:count]
                running = torch.ones_like(running[:count])
            seen = mask[:, : width + step + 1] if padded else None
            logits = self._logits(token[:, None], seen, positions + step + 1, cache)
        return _collect(requests, drawn.cpu(), log_probs.cpu(), lengths.cpu())

    def _logits(self, tokens: Tensor, mask: Tensor | None, positions: Tensor, cache: GrowingCache) -> Tensor:
        """Logits [B, V] after the last of `tokens` [B, T]; `mask` [B, all tokens so far], or None where all count."""
        plain = cache.plain and self.model.config._attn_implementation != FLASH
        if mask is not None and tokens.shape[1] == 1 and plain:
            mask = mask[:, None, None, :]  # as attention wants it; transformers would work it out anew for each token
        return self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]


def left_pad(sequences: Sequence[Sequence[int]], pad: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Token matrix [B, longest] with padding in front, and its mask."""
    longest = max(len(each) for each in sequences)
    tokens = torch.full((len(sequences), longest), pad)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for row, each in enumerate(sequences):
        tokens[row, longest - len(each) :] = torch.tensor(each)
        mask[row, longest - len(each) :] = 1
    return tokens.to(device), mask.to(device)


def draw(log_p: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """Tokens [B] by inverting the cumulative distribution of log_p [B, V] at `uniform` [B], within the top-p nucleus.

    The nucleus is the smallest set of most likely tokens whose probability reaches top_p (arXiv 1904.09751).
    """
    probabilities = log_p.exp()
    index = None
    if top_p < 1.0:
        ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        probabilities = torch.where(before < top_p, ordered, 0.0)
    cumulative = probabilities.cumsum(-1)
    chosen = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    chosen = chosen.clamp(max=log_p.shape[-1] - 1)
    return (chosen if index is None else index.gather(1, chosen)).squeeze(1)


def _collect(requests: list[Request], drawn: Tensor, log_probs: Tensor, lengths: Tensor) -> list[Response]:
    """`lengths` is 0 for a response that was cut."""
    tokens, scores = drawn.numpy().astype(np.int32), log_probs.numpy()
    return [
        Response(request.prompt, tokens[row, : length or None].copy(), scores[row, : length or None].copy(), length > 0)
        for row, (request, length) in enumerate(zip(requests, lengths.tolist(), strict=True))
    ]  # copies, so that no response keeps the whole table
