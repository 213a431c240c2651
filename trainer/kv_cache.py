"""The cache of keys and values while sampling: it grows in place, and rows leave it without the others being copied."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

LEAST_ROOM = 32
"""Tokens of room beyond what a layer holds when it grows; a quarter of what it holds if that is more."""


class GrowingLayer(DynamicLayer):
    """Keys and values with room behind them: a token is written there, where DynamicLayer copies all before it."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append [B, heads, T, d]; returns all keys and all values."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if start == 0:
            self.lazy_initialization(key_states, value_states)
        if start == 0 or end > self.rooms[0].shape[-2]:
            self.rooms = [_room(each, end + max(end // 4, LEAST_ROOM)) for each in (key_states, value_states)]
            if start:
                self._write((self.keys, self.values), 0, start)
        self._write((key_states, value_states), start, end)
        self.keys, self.values = (room[:, :, :end] for room in self.rooms)
        return self.keys, self.values

    def _write(self, states: tuple[Tensor, Tensor], start: int, end: int) -> None:
        for room, each in zip(self.rooms, states, strict=True):
            room[:, :, start:end] = each

    def batch_select_indices(self, indices: Tensor) -> None:
        """A copy of these rows takes the place of all."""
        end = self.get_seq_length()
        self.rooms = [room[indices] for room in self.rooms]
        self.keys, self.values = (room[:, :, :end] for room in self.rooms)

    def shrink(self, count: int, places: Tensor, sources: Tensor) -> None:
        """See `GrowingCache.shrink`."""
        end = self.get_seq_length()
        for room in self.rooms:
            room[places, :, :end] = room[sources, :, :end]
        self.rooms = [room[:count] for room in self.rooms]
        self.keys, self.values = (room[:, :, :end] for room in self.rooms)


def _room(states: Tensor, tokens: int) -> Tensor:
    batch, heads, _, size = states.shape
    return states.new_empty(batch, heads, tokens, size)


class GrowingCache(DynamicCache):
    """The layers that a model wants, those of plain attention growing in place."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(config=model.config)
        self.layers = [GrowingLayer() if type(each) is DynamicLayer else each for each in self.layers]
        self.plain = all(type(each) is GrowingLayer for each in self.layers)

    def shrink(self, count: int, places: Tensor, sources: Tensor) -> None:
        """Keep `count` rows: the first ones, but at `places` those that stood at `sources` behind them."""
        for layer in self.layers:
            if isinstance(layer, GrowingLayer):
                layer.shrink(count, places, sources)
            else:
                kept = torch.arange(count, device=places.device)
                kept[places] = sources
                layer.batch_select_indices(kept)
