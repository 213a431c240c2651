"""Responses from a vLLM engine that lives in the training process, one for each `tensor_parallel_size` ranks.

The one file that imports vllm. The engine is never a process of its own, so none can outlive its trial.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.policy import Policy
from trainer.ranks import Ranks
from trainer.rollout import Request, Response
from trainer.vllm_limits import check_settings, engine_arguments, engine_dtype
from trainer.weights import checksum, whole_weights

if TYPE_CHECKING:
    from vllm import LLM, CompletionOutput

# Read by vLLM when it is imported; what the user set stays.
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; by default a share of the whole machine, for every trial
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # two trials would be bound to the same core
}


class StaleWeights(RuntimeError):
    """The engine does not hold the weights of the policy."""


class VllmSampler:
    """See `trainer.rollout.Sampler`. Requests keep their seeds, so neither ranks nor batches change what is drawn."""

    def __init__(self, config: TrainerConfig, policy: Policy, ranks: Ranks) -> None:
        """Start the engine, with random weights until the first `sync`.

        Raises:
            UserError: vllm is not installed, or cannot run this model with these settings.
        """
        check_settings(config, policy, ranks)
        self._settings, self._policy, self._ranks = config.rollout.vllm, policy, ranks
        self._cuda = policy.device.type == "cuda"
        self._dtype = getattr(torch, engine_dtype(config))
        self._llm = start_engine(config, policy, ranks)
        self._longest = self._llm.llm_engine.model_config.max_model_len
        self._synced = self._asleep = False

    def sample(
        self, requests: Sequence[Request], *, temperature: float, top_p: float, max_tokens: int
    ) -> list[Response]:
        """See `Sampler.sample`. A temperature of 0 is greedy."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if not self._synced:
            raise StaleWeights("the engine was asked for responses before `sync`")
        wanted, own = self._requests_of_group(requests)
        # Of all ranks, so that they are refused together.
        longest = int(self._ranks.largest(max((len(each.prompt) for each in wanted), default=0)))
        if longest + max_tokens > self._longest:
            raise UserError(
                f"rollout.max_response_length = {max_tokens}: with the longest prompt, {longest} tokens, that is more"
                f" than the {self._longest} of rollout.vllm.max_model_len; raise that as far as the model allows, or"
                " lower rollout.max_response_length"
            )
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(each.prompt)} for each in wanted],
            [
                SamplingParams(
                    temperature=temperature,
                    top_p=top_p,
                    max_tokens=max_tokens,
                    seed=each.seed,
                    stop_token_ids=list(self._policy.end_tokens),
                    logprobs=0 if top_p == 1 else None,  # below 1 they would be of the truncated distribution
                    detokenize=False,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                for each in wanted
            ],
            use_tqdm=False,
        )
        return [_response(wanted[index], outputs[index].outputs[0]) for index in own]

    def sync(self) -> None:
        """Load the policy's weights tensor by tensor, forget cached prefixes, and compare checksums.

        Raises:
            StaleWeights: an engine holds something else afterwards.
            RuntimeError: a rank did not answer within `rank_timeout`, or its engine failed.
        """
        if self._asleep:
            # The cache would take the room that the gathered tensors need: https://github.com/vllm-project/vllm/issues/15254
            self._llm.wake_up(tags=["weights"])
        expected = 0

        def weights() -> Iterator[tuple[str, Tensor]]:
            nonlocal expected
            for name, value in whole_weights(self._policy.model, dtype=self._dtype, device=self._policy.device):
                expected = (expected + checksum(value)) % 2**64
                yield name, value

        try:
            self._load(weights())
            stale = self._stale_ranks(expected)
        except RuntimeError as error:
            raise RuntimeError(f"rank {self._ranks.rank}: the weights could not be synced: {error}") from error
        if stale:
            raise StaleWeights(f"after a sync the engine of rank {', '.join(map(str, stale))} holds other weights")
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
        self._llm.reset_prefix_cache()
        self._synced, self._asleep = True, False

    def sleep(self) -> None:
        """Drop weights and cache from the GPU. On a CPU they stay, and are not used before the next `sync`."""
        if self._cuda:
            self._llm.sleep(level=2)
            self._asleep = True
        self._synced = False

    def close(self) -> None:
        """End the engine, and with it the process group of the ranks."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm

    def _load(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        self._llm.apply_model(_set_to_zero)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})

    def _stale_ranks(self, expected: int) -> list[int]:
        """The ranks whose engine's parameters do not add up to `expected`, the same list on every rank."""
        held = torch.tensor(self._llm.apply_model(parameter_checksums)[0], device=self._ranks.device)
        rows = [torch.empty_like(held) for _ in range(self._ranks.size)]
        if self._ranks.size > 1:
            dist.all_gather(rows, held)
        else:
            rows = [held]
        stale, width = [], self._settings.tensor_parallel_size
        for first in range(0, self._ranks.size, width):
            parts = torch.stack(rows[first : first + width]).tolist()
            # A parameter is either cut over the ranks of an engine or the same on all of them.
            total = sum(column[0] if len(set(column)) == 1 else sum(column) for column in zip(*parts, strict=True))
            if total % 2**64 != expected:
                stale += range(first, first + width)
        return stale

    def _requests_of_group(self, requests: Sequence[Request]) -> tuple[list[Request], list[int]]:
        """What the engine is to draw, equal on all of its ranks, and which of that this rank was asked for."""
        ranks, width = self._ranks, self._settings.tensor_parallel_size
        if width == 1:
            return list(requests), list(range(len(requests)))
        total = int(ranks.sum({"requests": len(requests)})["requests"])
        everyones = ranks.gather_json([[each.prompt, each.seed] for each in requests], total)
        group = [index for index in range(total) if index % ranks.size // width == ranks.rank // width]
        wanted = [Request(tuple(everyones[index][0]), everyones[index][1]) for index in group]
        return wanted, [place for place, index in enumerate(group) if index % ranks.size == ranks.rank]


def parameter_checksums(model: torch.nn.Module) -> list[int]:
    """The checksum of each parameter of an engine, as signed 64-bit numbers, which tensors can carry."""
    values = (checksum(parameter) for parameter in model.parameters())
    return [value - 2**64 if value >= 2**63 else value for value in values]


def _set_to_zero(model: torch.nn.Module) -> None:
    """What a sync leaves out is then missing, not left over; so are padded rows of a vocabulary, which none brings."""
    for parameter in model.parameters():
        parameter.data.zero_()


def _response(request: Request, output: CompletionOutput) -> Response:
    tokens = np.array(output.token_ids, dtype=np.int32)
    if output.logprobs is None:
        log_probs = np.full(len(tokens), np.nan, dtype=np.float32)
    else:
        pairs = zip(output.logprobs, output.token_ids, strict=True)
        log_probs = np.array([candidates[token].logprob for candidates, token in pairs], dtype=np.float32)
    return Response(request.prompt, tokens, log_probs, finished=output.finish_reason == "stop")


def start_engine(config: TrainerConfig, policy: Policy, ranks: Ranks) -> LLM:
    """A vLLM engine for the architecture of `policy`, with random weights. Raises UserError for refused settings."""
    cuda = policy.device.type == "cuda"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)  # of vllm's calls, nothing to the user
    from vllm import LLM, _custom_ops

    if not dist.is_initialized():
        # One rank. Left to itself vLLM would open a port on every network for its world of one.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group("nccl" if cuda else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    if not cuda:
        from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator

        _custom_ops._supports_onednn = False  # it hides the weights in handles, out of the checksum's sight
        # Exchanges by shared memory wait for ever for a rank that died, and leave the memory behind; gloo's time out.
        CpuCommunicator._all_group_ranks_share_shm_group_name = lambda communicator: False
    set_threads = torch.set_num_threads
    try:
        return LLM(model=policy.model.name_or_path, **engine_arguments(config, cuda=cuda, ranks=ranks.size))
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"rollout.vllm: vLLM refuses these settings ({' '.join(lines[:3])}); change them") from None
    finally:
        torch.set_num_threads = set_threads  # on a CPU vLLM replaces it by nothing
