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


def test_of_a_traceback_as_a_message_it_is_the_last():
    """Ray Tune wraps so what goes wrong in a tracker."""
    try:
        raise ValueError("no @ in a name")
    except ValueError:
        wrapped = RuntimeError(traceback.format_exc())
    assert root_line(wrapped) == "ValueError: no @ in a name"
