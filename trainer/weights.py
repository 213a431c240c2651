"""The weights of the policy on their way to another engine: gathered tensor by tensor, checked by a checksum."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

# splitmix64's odd constants: https://prng.di.unimi.it/splitmix64.c, as signed 64-bit numbers
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_CHUNK = 1 << 24


def whole_weights(model: PreTrainedModel, *, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Names and whole tensors of `model` in `dtype`, tied ones once; under FSDP2 each is gathered when it is asked for.

    Never holds more than one gathered tensor. All ranks must take the tensors in step.
    """
    for name, parameter in model.named_parameters():
        value = parameter.detach().to(device)
        yield name, (value.full_tensor() if isinstance(value, DTensor) else value).to(dtype)


def checksum(value: Tensor) -> int:
    """64-bit checksum of the bits of `value`: the sum of a mixed word per element, zeros adding nothing.

    A sum depends neither on order nor on cuts, so it survives fused, sharded and zero-padded weights; any element that
    differs changes it, several but for one chance in 2^64.
    """
    word = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
    total = 0
    for part in value.detach().contiguous().view(word).view(-1).split(_CHUNK):
        mixed = part.long()
        for multiplier in _MULTIPLIERS:
            mixed = mixed * multiplier
            mixed = mixed ^ ((mixed >> 31) & 0x1FFFFFFFF)  # a logical shift: none for signed words in torch
        total += int(mixed.sum())
    return total % 2**64
