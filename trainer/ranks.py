"""The processes of one run: torch.distributed when there are several, nothing at all when there is one."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from trainer.errors import RankLost
from trainer.rollout import Response


@dataclass(frozen=True)
class Ranks:
    """This process's place among the run's ranks. With one rank every exchange returns what it was given."""

    rank: int
    size: int
    device: torch.device

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Sum each value over the ranks; every rank must give the same keys in the same order."""
        if self.size == 1:
            return values
        table = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(table)
        return dict(zip(values, table.tolist(), strict=True))

    def largest(self, value: float) -> float:
        """The largest `value` of all ranks."""
        if self.size == 1:
            return value
        table = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(table, op=dist.ReduceOp.MAX)
        return float(table)

    def first_fault(self, fault: str | None) -> tuple[int, str] | None:
        """The lowest rank that has a fault and what it calls it; None where no rank has one."""
        faults = self.gather_json([fault], self.size)
        return next(((rank, each) for rank, each in enumerate(faults) if each), None)

    def share(self, items: Sequence) -> list:
        """This rank's part of a list that every rank has: items rank, rank + size, ..."""
        return list(items[self.rank :: self.size])

    def gather_responses(self, own: Sequence[Response], prompts: Sequence[tuple[int, ...]]) -> list[Response]:
        """Undo `share`: every rank's responses, in the order of `prompts`, on every rank.

        Tokens travel as tensors, not pickled: a paper-sized batch is 8,192 responses of 10,000 tokens.
        """
        if self.size == 1:
            return list(own)
        heads = torch.tensor([[len(each.tokens), each.finished] for each in own], dtype=torch.int64).reshape(-1, 2)
        tokens = torch.from_numpy(np.concatenate([each.tokens for each in own] or [np.empty(0, np.int32)]))
        log_probs = torch.from_numpy(np.concatenate([each.log_probs for each in own] or [np.empty(0, np.float32)]))
        all_heads, all_tokens, all_log_probs = (self._gather(each) for each in (heads, tokens, log_probs))
        responses: dict[int, Response] = {}
        for rank in range(self.size):
            start = 0
            for index, (length, finished) in zip(
                range(rank, len(prompts), self.size), all_heads[rank].tolist(), strict=True
            ):
                part = slice(start, start + length)
                responses[index] = Response(
                    prompts[index], all_tokens[rank][part].numpy(), all_log_probs[rank][part].numpy(), bool(finished)
                )
                start += length
        return [responses[index] for index in range(len(prompts))]

    def gather_json(self, own: Sequence[object], total: int) -> list:
        """Undo `share` for values that JSON can carry; `total` is the length of the whole list."""
        if self.size == 1:
            return list(own)
        parts = self._gather(torch.frombuffer(bytearray(json.dumps(list(own)).encode()), dtype=torch.uint8))
        merged: list = [None] * total
        for rank, part in enumerate(parts):
            merged[rank :: self.size] = json.loads(part.numpy().tobytes())
        return merged

    def _gather(self, own: torch.Tensor) -> list[torch.Tensor]:
        """Every rank's tensor; they may differ in their first dimension."""
        sizes = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(own)], device=self.device))
        longest = max(int(size) for size in sizes)
        padded = torch.zeros((longest, *own.shape[1:]), dtype=own.dtype, device=self.device)
        padded[: len(own)] = own.to(self.device)
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return [part[: int(size)].cpu() for part, size in zip(parts, sizes, strict=True)]

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.size > 1:
            dist.barrier()


ALONE = Ranks(0, 1, torch.device("cpu"))
"""One process on the CPU."""


_LOST = re.compile(r"(?i)gloo|nccl|connection (closed|reset|refused)|timed? ?out|broken pipe")
"""How torch.distributed's errors read when another rank is gone; most have no class of their own."""
_SOURCE = re.compile(r"^\[[^\]]*\]\s*")
"""The place in torch's own sources that begins them."""


def says_lost(error: BaseException) -> bool:
    """Whether `error` is how torch.distributed says that another rank is gone, or cannot be met at all."""
    lost = isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None
    return lost or isinstance(error, dist.DistNetworkError)


def _store(rank: int, size: int, timeout: timedelta) -> dist.Store | None:
    """Where the ranks meet when rank 0 was given a socket that is bound there; None when that is left to torch.

    The socket is MASTER_LISTEN_FD, which is empty on the other ranks. It is used once: the store closes it.
    """
    descriptor = os.environ.pop("MASTER_LISTEN_FD", None)
    if descriptor is None:
        return None
    listener = None
    if descriptor:
        held = socket.socket(fileno=int(descriptor))
        held.listen()
        listener = held.detach()
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(host, port, size, rank == 0, timeout, master_listen_fd=listener)


@contextmanager
def start_ranks(*, timeout: float) -> Iterator[Ranks]:
    """Join the run's process group as torchrun's environment variables say (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_*).

    CUDA with nccl where there is a GPU, else the CPU with gloo. For an exchange on GPUs that is late it is torch's own
    watchdog that ends the process and names the rank.

    Args:
        timeout: seconds after which an exchange that some rank does not join fails.

    Raises:
        RankLost: another rank died or did not answer; from whatever exchange was under way inside.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size == 1:
        yield Ranks(0, 1, device)
        return
    if rank > 0:
        logging.getLogger("trainer").setLevel(logging.ERROR)  # what rank 0 says is enough
    try:
        # gloo too on GPUs: offloaded gradients are exchanged where they lie.
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        patience = timedelta(seconds=timeout)
        where = {"rank": rank, "world_size": size, "store": _store(rank, size, patience)}
        dist.init_process_group(backend, timeout=patience, device_id=device if cuda else None, **where)
        yield Ranks(rank, size, device)
    except RuntimeError as error:
        if not says_lost(error):
            raise
        reason = _SOURCE.sub("", str(error).strip().splitlines()[0])[:100]
        raise RankLost(
            f"rank {rank} of {size}: another rank died, or did not answer within rank_timeout = {timeout:g} s"
            f" ({reason}); look for the first error among the ranks, or raise rank_timeout"
        ) from error
    finally:
        if dist.is_initialized():  # an engine that was closed may have ended it
            dist.destroy_process_group()
