"""Running out of memory, said as what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.errors import UserError

_LOWER = {
    "model": "give the run more ranks, or set model.cpu_offload to true",
    "rollout": "lower rollout.max_response_length; rollout.vllm.max_num_seqs, or without vllm rollout.prompts_per_step",
    "score": "lower optimizer.micro_batch_tokens",
    "update": "lower optimizer.micro_batch_tokens, or set model.activation_checkpointing or model.cpu_offload to true",
    "sync": "lower rollout.vllm.gpu_memory_utilization",
}
_LOWER["evaluation"] = _LOWER["rollout"]


@contextmanager
def memory_for(phase: str, *, rank: int) -> Iterator[None]:
    """Name the settings to lower when what happens inside needs more memory than there is.

    Args:
        phase: model, rollout, score, update, sync or evaluation.

    Raises:
        UserError: out of memory, on a GPU or on the host.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        on_host = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        if not on_host and not isinstance(error, torch.OutOfMemoryError):
            raise
        asked = " ".join(str(error).split())[:200]
        raise UserError(
            f"out of {'host' if on_host else 'GPU'} memory in {phase} on rank {rank} ({asked}); {_LOWER[phase]}"
        ) from error
