"""The head of the connected Ray: whether it answers, and a last word where a call to Ray waits for it in vain.

Ray's own calls wait for a head that has gone until, a minute later, Ray ends the process without a word. So the head is
asked past Ray, before such calls and beside them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from study.bridge import StudyAborted
from study.signals import came

GONE = "the head of the Ray cluster does not answer any more (stopped or killed)"
_PATIENCE = 20.0
"""Seconds that the head may be silent before the study is ended in order."""

_LAST_WORD_SECONDS = 30.0
"""Seconds of silence after which the main thread is taken to wait in a call to Ray; at 60 Ray ends the process."""
_SIGNALLED_SECONDS = 5.0
"""The same after a signal, which systemd or scancel has sent to all processes of the job, a study's own Ray too."""
_KNOCK_SECONDS = 10.0
_MEETING_SECONDS = 30.0
_PERIOD = 5.0


def knock(host: str, port: str) -> None:
    """Raise OSError when nothing listens there."""
    socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def meet(address: str) -> None:
    """Raise ConnectionError when what listens at host:port does not answer as the head of a Ray cluster, the port of
    its dashboard for example. Ray itself would try for a quarter of an hour, and be deaf to Ctrl-C meanwhile."""
    from ray._raylet import GcsClient

    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(Exception):  # of a head that refuses; ray.init says why
            GcsClient(address=address)
        answered.set()

    threading.Thread(target=ask, name="meet", daemon=True).start()
    if not answered.wait(_MEETING_SECONDS):
        raise ConnectionError(
            f"what listens at {address} has not answered as the head of a cluster within {_MEETING_SECONDS:g} s; its"
            " port is 6379 unless it was started with another"
        )


def require_head() -> None:
    """Raise StudyAborted when the head is gone. Before a call to Ray, which would wait for it."""
    if not head_answers(_PATIENCE):
        raise StudyAborted(GONE)


def head_answers(patience: float = 0.0) -> bool:
    """Whether the head of the connected Ray can be reached, within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not _answers():
        if time.monotonic() >= deadline:
            return False
        time.sleep(1)
    return True


@contextlib.contextmanager
def watched_head(last_word: Callable[[], None]) -> Iterator[None]:
    """Inside the block a head that stays silent ends this process, whatever its main thread waits for, with exit code
    2; after a signal with 130.

    Args:
        last_word: called on another thread before that.
    """
    left = threading.Event()

    def watch() -> None:
        heard = time.monotonic()
        while not left.wait(_PERIOD):
            if _answers():
                heard = time.monotonic()
            elif time.monotonic() - heard >= (_SIGNALLED_SECONDS if came() else _LAST_WORD_SECONDS):
                if left.is_set():
                    return
                try:
                    last_word()
                finally:
                    os._exit(130 if came() else 2)

    watcher = threading.Thread(target=watch, name="head", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()


def _answers() -> bool:
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        knock(host, port)
    except OSError:
        return False
    return True
