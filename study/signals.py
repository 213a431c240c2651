"""Signals that end a command in order: SIGTERM and the end of the terminal act like Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

_came = threading.Event()


@contextlib.contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """Inside the block SIGTERM acts like Ctrl-C, so that a stopped job ends its study in order as well."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A terminal that is gone too, unless the user has said otherwise (nohup); likewise Ctrl-C (a background job).
    wanted = [signal.SIGTERM]
    wanted += [each for each in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(each) is not signal.SIG_IGN]
    previous = [signal.signal(each, _interrupt) for each in wanted]
    try:
        yield
    finally:
        for each, handler in zip(wanted, previous, strict=True):
            signal.signal(each, handler)
        _came.clear()


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Inside the block a library may take SIGTERM over, as `ray.init` does to end the process with code 15 and no word.
    What it was is put back, and an end of that kind is Ctrl-C as well."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if end.code != signal.SIGTERM:
            raise
        signal.alarm(0)  # by which Ray's native handler aborts the process three seconds later
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, own)


def came() -> bool:
    """Whether one of them has come inside `terminated_as_interrupt`."""
    return _came.is_set()


def raise_lost_interrupt() -> None:
    """Raise the KeyboardInterrupt of a signal again. Python drops what is raised while it clears memory away."""
    if came():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: Any) -> NoReturn:
    _came.set()
    raise KeyboardInterrupt
