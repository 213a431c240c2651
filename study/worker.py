"""The processes of a trial that train: Ray actors, one for each rank.

They import no Ray Tune and none of the study's storage: each is started while someone waits, on GPUs anew with each
trial; on CPUs it goes on with the next.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout

from study.assignment import RacingLook
from trainer.config import TrainerConfig
from trainer.config_file import read_config
from trainer.errors import UserError
from trainer.records import Evaluation, Look, read_lines

_PREDECESSOR_SECONDS = 60.0
"""How long a worker waits for one that an earlier driver left behind, which ends as soon as it misses its Ray."""


def require_visible(directory: Path) -> None:
    """Raise UserError when this node does not see the directory of a trial, which its driver has made."""
    if not directory.is_dir():
        raise UserError(
            f"--out {directory.parents[1]}: not visible on node {ray.util.get_node_ip_address()};"
            " put the study on a file system that all nodes share"
        )


def require_cuda(gpus: float) -> None:
    """Raise UserError when a worker that was given `gpus` would train on the CPU all the same."""
    import torch

    if gpus and not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise UserError(
            f"resources.gpus_per_worker = {gpus:g}: torch {torch.__version__} ({build}) sees no GPU on node"
            f" {ray.util.get_node_ip_address()}; install a torch with CUDA or a newer driver there, or set it to 0"
        )


class Worker:
    """One process that trains. Between two evaluations it waits, so that a pruned run ends where it was pruned."""

    def __init__(self, rank: int, size: int, gpus: float = 0) -> None:
        # LOCAL_RANK is 0: Ray shows a worker its own GPU only.
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK="0")
        self._rank, self._size, self._gpus = rank, size, gpus
        self._run: Generator[Evaluation | Look, bool | None, None] | None = None
        self._lock: FileLock | None = None

    def rendezvous(self) -> tuple[str, int]:
        """Where the ranks can meet: an address of this process's node, and a port that is theirs from now on.

        `start_ranks` takes the socket over. Left to itself torch would open the port later, on every network. Nobody
        listens until then: a connection that is made and not answered keeps torch waiting without an end.
        """
        host = ray.util.get_node_ip_address()
        held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            held.bind((host, 0))
        except OSError:  # the node does not have the address itself by which others reach it
            held.bind(("", 0))
        with held:
            port = held.getsockname()[1]
            if self._size > 1:
                os.environ["MASTER_LISTEN_FD"] = str(held.detach())
        return host, port

    def begin(self, directory: Path, address: tuple[str, int]) -> None:
        """Take up the run in `directory`, from its checkpoint if it has one; a run that is still open is closed.

        Raises:
            UserError: the directory is not there, its config is not valid, or torch does not see the GPU it is to have.
        """
        from trainer.train import train

        if self._run is not None:
            self._run.close()
        os.environ.update(MASTER_ADDR=address[0], MASTER_PORT=str(address[1]))
        os.environ.setdefault("MASTER_LISTEN_FD", "")
        require_visible(directory)
        require_cuda(self._gpus)
        self._hold(directory)
        path = directory / "config.yaml"
        self._directory, self._told = directory, -1
        config = read_config(TrainerConfig, path)
        self._run = train(config, directory, resume=True, races=True)

    def advance(self, enough: bool) -> Mapping[str, Any] | None:
        """Train up to the next evaluation, or the next look at one that races; None after the last. Raises what `train`
        does.

        Args:
            enough: after a look, that no more samples are wanted.
        Returns:
            ``{"evaluation": JSON data, "metrics": the lines of metrics.jsonl since the evaluation before}``, or a
            `RacingLook`.
        """
        assert self._run is not None, "begin comes first"
        try:
            evaluation = self._run.send(enough or None)  # a generator begins with None
        except StopIteration:
            return None
        if isinstance(evaluation, Look):
            score = evaluation.score
            return RacingLook(step=evaluation.step, look=score.samples, solved=list(score.solved))
        lines = read_lines(self._directory / "metrics.jsonl") if self._rank == 0 else []
        lines = [line for line in lines if self._told < line["step"] <= evaluation.step]
        self._told = evaluation.step
        return {"evaluation": evaluation.model_dump(mode="json"), "metrics": lines}

    def _hold(self, directory: Path) -> None:
        """One process writes a run. The lock goes with the process, so a dead one holds nothing."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._rank != 0:
            return
        lock = FileLock(directory / "run.lock")
        try:
            lock.acquire(timeout=_PREDECESSOR_SECONDS)
        except Timeout:
            raise UserError(f"{directory}: another process still trains there; end it, and: fipo resume") from None
        self._lock = lock
