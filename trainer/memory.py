"""Memory: waiting for what a trial before gives back, and running out of it, said as what to lower."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
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


def gpu_memory(device: torch.device) -> tuple[int, int]:
    """Free and whole memory of a GPU in bytes, whoever uses it.

    Of NVML; of CUDA where nvidia-ml-py is not installed, and for slices of a GPU (MIG), which NVML does not know so.
    """
    whole = torch.cuda.get_device_properties(device).total_memory
    try:
        return whole - torch.cuda.device_memory_used(device), whole
    except Exception:  # NVML's errors have no class in common with those of torch around it
        return torch.cuda.mem_get_info(device)


def wait_for_memory(share: float, read: Callable[[], tuple[int, int]], *, seconds: float = 60.0) -> None:
    """Wait until `share` of a GPU is free: the trial before may still be giving it back.

    Args:
        share: of the whole GPU, 0..1.
        read: free and whole memory in bytes, as `gpu_memory` tells them.
        seconds: how long at most.

    Raises:
        UserError: it was not free by then.
    """
    gc.collect()
    torch.cuda.empty_cache()  # of a trial that was in this very process
    until = time.monotonic() + seconds
    while (memory := read())[0] < share * memory[1]:
        if time.monotonic() > until:
            free, whole = (each / 2**30 for each in memory)
            raise UserError(
                f"rollout.vllm.gpu_memory_utilization = {share}: needs {share * whole:.1f} GiB, but {free:.1f} of"
                f" {whole:.1f} GiB were free for {seconds:.0f} s; end what else runs on this GPU (nvidia-smi), or"
                " lower it"
            ) from TimeoutError(f"{seconds:.0f} s")
        time.sleep(0.2)
