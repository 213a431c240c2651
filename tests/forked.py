"""Processes that begin with torch, the trainer and Ray Tune loaded: they start in no time, and die like any other."""

from __future__ import annotations

import multiprocessing
import socket
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["trainer.__main__", "tests.integration.noop_driver"])
_BEGIN = """
import os, sys
os.environ.update(environment)
file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(file, 1), os.dup2(file, 2)
"""
TRAIN = "from trainer.__main__ import main; sys.exit(main(arguments))"


def start(code: str, *arguments: object, output: Path, environment: dict[str, str] | None = None) -> ForkServerProcess:
    """Run `code`, which sees `arguments` as strings; what it prints goes to the file `output`."""
    names = {"arguments": [str(each) for each in arguments], "output": str(output), "environment": environment or {}}
    process = _CONTEXT.Process(target=exec, args=(_BEGIN + code, names | {"__name__": "__main__"}))
    process.start()
    return process


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_ranks(code: str, *arguments: object, output: Path, size: int = 2) -> list[ForkServerProcess]:
    """`start` once for each rank, as torchrun would."""
    where = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        start(code, *arguments, output=output, environment=where | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(size)
    ]


def finish(*processes: ForkServerProcess, output: Path, timeout: float = 300) -> None:
    """Wait for all; each must end well."""
    for process in processes:
        process.join(timeout)
        assert process.exitcode == 0, f"exit code {process.exitcode}: {output.read_text()[-3000:]}"
