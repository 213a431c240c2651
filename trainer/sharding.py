"""Splitting a policy over ranks with FSDP2, and putting it together for sampling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from trainer.config import ModelConfig


def shard(model: PreTrainedModel, config: ModelConfig, device: torch.device) -> None:
    """Shard `model` in place over all ranks, each decoder layer on its own (`fully_shard`), with the values of rank 0.

    They come to `device` a layer at a time, so that no GPU ever holds more of the model than one layer and its shards.
    Parameters, gradients and optimizer state are float32 shards; layers are gathered in `config.dtype` as they are
    used. Needs an initialised process group.
    """
    dtype = getattr(torch, config.dtype)
    precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.promote_types(dtype, torch.float32))
    offload = CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if config.cpu_offload else OffloadPolicy()
    settings = {"mp_policy": precision, "offload_policy": offload}
    layers = [each for each in model.modules() if isinstance(each, torch.nn.ModuleList)]
    for layer in max(layers, key=len):
        _receive(layer, device)
        fully_shard(layer, **settings)
    _receive(model, device)
    fully_shard(model, **settings)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Our losses are sums, divided by a count over all ranks: gradients are added up, not averaged.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no reduction with a factor
    register_fsdp_forward_method(model, "scores")


@torch.no_grad()
def _receive(module: torch.nn.Module, device: torch.device) -> None:
    """Bring what of `module` is not sharded yet to `device`, with the values of rank 0."""
    for owner in module.modules():
        for parameter in owner.parameters(recurse=False):
            if not isinstance(parameter, DTensor):
                parameter.data = parameter.data.to(device)
                torch.distributed.broadcast(parameter.data, 0)
        for name, buffer in list(owner.named_buffers(recurse=False)):
            owner.register_buffer(name, buffer.to(device), name not in owner._non_persistent_buffers_set)
            torch.distributed.broadcast(owner.get_buffer(name), 0)


@contextmanager
def gathered(model: PreTrainedModel) -> Iterator[None]:
    """The whole model on every rank while inside, so that ranks may run it a different number of times.

    A sampling loop ends earlier on one rank than on another; with sharded layers the others would wait for ever.
    """
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in modules:
        module.unshard()
        module.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(module is not model, recurse=False)
