"""One driver per study: a lock that ends with its process, and a heartbeat for machines that cannot see the process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from study.directory import typed
from trainer.errors import UserError
from trainer.records import write_atomic

BEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A driver that has not beaten for this long is taken for dead, unless this machine sees that it holds its lock."""

_BEGAN = time.time()
"""Of this process."""
_HOST = socket.gethostname()
"""What this process writes down: a machine may be called otherwise later, as a laptop that changes its network."""

ROOM_AGAIN = "there is room again, and the study goes on"
"""Told when no trial of a driver waits for room any more."""


@dataclass(frozen=True)
class Driver:
    """The process that drives a study."""

    host: str
    pid: int
    waits: str | None = None
    """Why trials wait for room, or that it is `silent`; None while nothing waits."""
    began: float = 0.0
    """When it began, seconds since the epoch; 0 where that is not known."""
    silent: bool = False
    """Whether it holds its lock and does not beat: it is suspended, or stuck. It may go on at any time."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def driver(directory: Path) -> Driver | None:
    """Who drives the study in `directory`, None when no one does."""
    beat = directory / "driver.json"
    try:
        found = _noted(beat)
        age = time.time() - beat.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return None
    here = found.host == socket.gethostname()
    if here and not _runs(found.pid):
        return None
    if age < STALE_SECONDS:
        return found
    if not here or not _held(directory):
        return None
    why = (
        f"{found} drives the study and has been silent for more than {STALE_SECONDS:.0f} s; it may be suspended, and"
        f" kill -CONT {found.pid} has it go on; if not, it is stuck: kill -9 {found.pid}, then"
        f" {typed('resume', directory)}"
    )
    return replace(found, silent=True, waits=why)


@contextlib.contextmanager
def driver_lock(directory: Path, last_word: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the study in `directory`; the lock goes with the process, however it ends.

    Where another process has taken the study up, because this one was suspended for so long that a machine which does
    not see its lock took it for dead, this one ends as by SIGKILL, with exit code 2: two would write over each other.

    Args:
        last_word: called with a line, on another thread, before that; without it the line goes to stderr.
    Raises:
        UserError: another process drives it.
    """
    # The kernel gives the file lock back when its process dies. Some shared file systems keep it to one machine; the
    # heartbeat is seen on all.
    lock = FileLock(directory / "driver.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise driven(directory, driver(directory)) from None
    try:
        if (other := driver(directory)) is not None and other.host != socket.gethostname():
            raise driven(directory, other)
        with _beating(directory, last_word or _to_stderr):
            yield
    finally:
        lock.release()


def note_driver(directory: Path, *, waits: str | None) -> None:
    """Write down that this process drives the study in `directory`, and why trials wait for room."""
    own = {"host": _HOST, "pid": os.getpid(), "waits": waits, "began": _BEGAN}
    write_atomic(directory / "driver.json", json.dumps(own))


def driven(directory: Path, other: Driver | None) -> UserError:
    """That the study in `directory` has a driver already, and what to do."""
    if other is not None and other.silent:
        return UserError(f"{directory}: {other.waits}")
    who = other or "another process"
    return UserError(f"{directory}: is driven by {who}; wait for it, or stop it: {typed('stop', directory)}")


@contextlib.contextmanager
def _beating(directory: Path, last_word: Callable[[str], None]) -> Iterator[None]:
    note_driver(directory, waits=None)
    beat = directory / "driver.json"
    stop = threading.Event()

    def keep_beating() -> None:
        while not stop.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError, ValueError, TypeError):  # a full disk is for others to report
                if ((found := _noted(beat)).host, found.pid) != (_HOST, os.getpid()):
                    last_word(f"{directory}: {found} has taken the study up, since this process was silent; it ends")
                    os._exit(2)
                os.utime(beat)

    thread = threading.Thread(target=keep_beating, daemon=True, name="driver heartbeat")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        beat.unlink(missing_ok=True)


def _noted(beat: Path) -> Driver:
    return Driver(**json.loads(beat.read_text(encoding="utf-8")))


def _held(directory: Path) -> bool:
    """Whether a process of this machine holds the lock."""
    try:
        with FileLock(directory / "driver.lock", timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # of someone who may only read there
        return False


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
