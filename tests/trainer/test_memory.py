"""Out of memory is one line that says what to lower."""

from __future__ import annotations

import pytest
import torch

from trainer.errors import UserError
from trainer.memory import memory_for
from trainer.metrics import Clock


def test_a_full_gpu_names_the_phase_the_rank_and_what_to_lower() -> None:
    line = r"GPU memory in update on rank 3 \(CUDA out.*lower optimizer.micro_batch_tokens"
    with pytest.raises(UserError, match=line), Clock(3).phase("update"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has 79 GiB")


def test_a_full_host_is_said_too() -> None:
    line = r"host memory in rollout on rank 0 .*lower rollout.max_response_length"
    with pytest.raises(UserError, match=line), memory_for("rollout", rank=0):
        torch.empty(10**15)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), memory_for("update", rank=0):
        raise RuntimeError("shapes")
