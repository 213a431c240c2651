"""One driver per study: a lock that ends with its process, and a heartbeat for machines that cannot see the process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from study.directory import typed
from trainer.errors import UserError
from trainer.records import write_atomic

BEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A driver that has not beaten for this long is taken for dead."""

_BEGAN = time.time()
"""Of this process."""

ROOM_AGAIN = "there is room again, and the study goes on"
"""Told when no trial of a driver waits for room any more."""


@dataclass(frozen=True)
class Driver:
    """The process that drives a study."""

    host: str
    pid: int
    waits: str | None = None
    """Why trials wait for room; None while none does."""
    began: float = 0.0
    """When it began, seconds since the epoch; 0 where that is not known."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def driver(directory: Path) -> Driver | None:
    """Who drives the study in `directory`, None when no one does."""
    beat = directory / "driver.json"
    try:
        found = Driver(**json.loads(beat.read_text(encoding="utf-8")))
        age = time.time() - beat.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return None
    alive = age < STALE_SECONDS and (found.host != socket.gethostname() or _runs(found.pid))
    return found if alive else None


@contextlib.contextmanager
def driver_lock(directory: Path) -> Iterator[None]:
    """Hold the study in `directory`; the lock goes with the process, however it ends.

    Raises:
        UserError: another process drives it.
    """
    # The kernel gives the file lock back when its process dies. Some shared file systems keep it to one machine; the
    # heartbeat is seen on all.
    lock = FileLock(directory / "driver.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise _driven(directory, driver(directory)) from None
    try:
        if (other := driver(directory)) is not None and other.host != socket.gethostname():
            raise _driven(directory, other)
        with _beating(directory):
            yield
    finally:
        lock.release()


def note_driver(directory: Path, *, waits: str | None) -> None:
    """Write down that this process drives the study in `directory`, and why trials wait for room."""
    own = Driver(socket.gethostname(), os.getpid(), waits, _BEGAN)
    write_atomic(directory / "driver.json", json.dumps(asdict(own)))


@contextlib.contextmanager
def _beating(directory: Path) -> Iterator[None]:
    note_driver(directory, waits=None)
    beat = directory / "driver.json"
    stop = threading.Event()

    def keep_beating() -> None:
        while not stop.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full disk is for others to report
                os.utime(beat)

    thread = threading.Thread(target=keep_beating, daemon=True, name="driver heartbeat")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        beat.unlink(missing_ok=True)


def _driven(directory: Path, other: Driver | None) -> UserError:
    who = other or "another process"
    return UserError(f"{directory}: is driven by {who}; wait for it, or stop it: {typed('stop', directory)}")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
