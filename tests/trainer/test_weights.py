"""The checksum of a sync sees every changed element, however the engine fused, cut or padded its weights."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from trainer.weights import checksum, whole_weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_order_cuts_and_zero_padding_leave_the_checksum(dtype: torch.dtype) -> None:
    value = torch.randn(40, 33, generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = checksum(value)
    assert checksum(value.T) == whole
    assert checksum(value.flatten()[torch.randperm(value.numel())]) == whole
    assert checksum(torch.cat([value, torch.zeros(7, 33, dtype=dtype)])) == whole
    assert sum(checksum(part) for part in value.split([11, 29])) % 2**64 == whole


def test_weights_are_gathered_one_by_one(random_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(random_model)
    before = None
    for name, value in whole_weights(model, dtype=torch.float16, device=torch.device("cpu")):
        assert before is None or before() is None, f"still there with {name}"
        before = weakref.ref(value)
        del value


def test_any_flipped_bit_changes_the_checksum() -> None:
    value = torch.randn(64, generator=torch.Generator().manual_seed(0))
    seen = {checksum(value)}
    for element in (0, 17, 63):
        for bit in range(32):
            flipped = value.clone()
            flipped.view(torch.int32)[element] ^= torch.tensor(1 << bit).to(torch.int32)
            seen.add(checksum(flipped))
    assert len(seen) == 1 + 3 * 32
