"""What is said of an error in one line."""

from __future__ import annotations

import traceback

from trainer.errors import root_line


def test_the_line_is_the_first_of_what_everything_began_with():
    full = OSError("database or disk is full\n(Background on this error at: ...)")
    error = RuntimeError("could not commit")
    error.__cause__ = full
    assert root_line(error) == "database or disk is full"
    assert root_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_of_a_traceback_as_a_message_it_is_the_first_of_what_was_raised_last():
    """Ray Tune wraps so what goes wrong in a tracker."""
    try:
        try:
            raise KeyError("before")
        except KeyError:
            raise ValueError("no @ in a name\n  one@k\n(Background on this error at: ...)") from None
    except ValueError:
        wrapped = RuntimeError(traceback.format_exc())
    assert root_line(wrapped) == "ValueError: no @ in a name"
    try:
        try:
            raise KeyError("before")
        except KeyError as error:
            raise ValueError("no table\n\nlook again") from error
    except ValueError:
        wrapped = RuntimeError(traceback.format_exc())
    assert root_line(wrapped) == "ValueError: no table"
    assert root_line(RuntimeError("Traceback (most recent call last):\n  cut off")) == "  cut off"
