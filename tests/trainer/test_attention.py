"""Packed attention: flash-attn where it can run; every sequence is told where it begins. Numbers: test_policy.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from trainer.attention import FLASH, NAME, attention_implementation, packing_arguments


@pytest.mark.parametrize(
    ("cuda", "installed", "dtype", "expected"),
    [
        (True, True, torch.bfloat16, FLASH),
        (True, True, torch.float32, NAME),
        (True, False, torch.bfloat16, NAME),
        (False, True, torch.bfloat16, NAME),
    ],
)
def test_flash_attention_is_taken_where_it_can_run(
    cuda: bool, installed: bool, dtype: torch.dtype, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    assert attention_implementation(dtype) == expected


def test_a_pack_says_where_each_sequence_begins_and_needs_no_mask(random_model: Path) -> None:
    """As transformers' varlen call of flash-attn reads it: cumulated lengths in int32, the longest, no mask."""
    model = AutoModelForCausalLM.from_pretrained(random_model)
    model.config._attn_implementation = FLASH
    arguments = packing_arguments(model, [3, 1, 2], torch.device("cpu"))
    assert arguments["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    for side in ("q", "k"):
        edges = arguments[f"cu_seq_lens_{side}"]
        assert edges.tolist() == [0, 3, 4, 6] and edges.dtype == torch.int32
        assert arguments[f"max_length_{side}"] == 3
    assert arguments["attention_mask"] is None
