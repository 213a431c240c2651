"""A real PostgreSQL server of the test's own, on loopback, that asks for a password."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
PASSWORD = "not-a-secret-4711"


@dataclass(frozen=True)
class Server:
    """Where it listens. The URL has no password; PGPASSWORD is to hold it."""

    port: int
    control: Callable[..., None]
    """Runs pg_ctl on it with the given arguments."""

    @property
    def url(self) -> str:
        return f"postgresql://fipo@127.0.0.1:{self.port}/postgres"

    def stop(self) -> None:
        """As for an upgrade: connections are cut."""
        self.control("-m", "fast", "stop")

    def start(self) -> None:
        self.control("start")


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Up inside the block. PostgreSQL does not run as root, so root starts it as the user that Debian made for it."""
    programs = PROGRAMS[-1].parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = Path(tempfile.mkdtemp(prefix="pg-"))
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if as_postgres:
        shutil.chown(data, "postgres")
    (secret := data.with_suffix(".pw")).write_text(PASSWORD)
    secret.chmod(0o644)

    def call(*command: str) -> None:
        subprocess.run([*as_postgres, *command], check=True, capture_output=True, cwd="/", timeout=120)

    try:
        call(str(programs / "initdb"), "-D", str(data), "-U", "fipo", "-A", "scram-sha-256", f"--pwfile={secret}")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {data} -c fsync=off"

        def control(*arguments: str) -> None:
            call(str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(data / "log"), "-w", *arguments)

        control("start")
        try:
            yield Server(port, control)
        finally:
            control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(data, ignore_errors=True)
        secret.unlink(missing_ok=True)
