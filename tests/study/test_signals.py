"""Signals as interrupts, also one that comes where Python drops what is raised."""

from __future__ import annotations

import os
import signal
import sys
import weakref
from collections.abc import Iterator

import pytest

from study.signals import raise_lost_interrupt, sigterm_kept, terminated_as_interrupt


@pytest.fixture(autouse=True)
def in_the_foreground() -> Iterator[None]:
    """The tests may run under nohup or as a background job, where these are ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Thing:
    """Something to be cleared away."""


def lose(number: int) -> None:
    """Send this process a signal while Python calls back that an object has gone."""
    thing = Thing()
    watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), number))
    del thing
    assert watch() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_interrupts(number):
    before = signal.getsignal(number)
    with terminated_as_interrupt(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    raise_lost_interrupt()  # it has been raised, and is over


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_has_lost_is_raised_later(number):
    with terminated_as_interrupt():
        lose(number)
        with pytest.raises(KeyboardInterrupt):
            raise_lost_interrupt()


def test_sigterm_that_a_library_takes_over_is_an_interrupt_all_the_same():
    def end(number, frame):
        signal.alarm(60)
        sys.exit(number)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_kept():
        signal.signal(signal.SIGTERM, end)
        os.kill(os.getpid(), signal.SIGTERM)
    assert (signal.getsignal(signal.SIGTERM), signal.alarm(0)) == (before, 0)
    with pytest.raises(SystemExit, match="3"), sigterm_kept():
        sys.exit(3)
    with sigterm_kept():
        signal.signal(signal.SIGTERM, end)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_the_user_has_the_command_ignore_stays_ignored():
    for number in (signal.SIGHUP, signal.SIGINT):
        before = signal.signal(number, signal.SIG_IGN)
        try:
            with terminated_as_interrupt():
                os.kill(os.getpid(), number)
                raise_lost_interrupt()
        finally:
            signal.signal(number, before)
