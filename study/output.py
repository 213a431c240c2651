"""What a command writes to whom it may outlive: a study goes on where no one reads its output any more."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """A file whose reader may end first: ``head``, ``tee``, a connection, a terminal. What it does not read is unsaid.

    Python ends a process there, and rich sends its standard output, by then a study's driver.log, nowhere.
    """

    def write(self, data: ReadableBuffer, /) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return memoryview(data).nbytes


def console(stream: TextIO) -> Console:
    """A console on the file that `stream` has now, whatever becomes its file later, and whoever reads it."""
    own = _Output(os.dup(stream.fileno()), "w")
    return Console(file=io.TextIOWrapper(io.BufferedWriter(own), encoding="utf-8"))


def say(to: Console, line: str, style: str | None = None) -> None:
    """Write `line` as it is, however long."""
    to.print(line, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)
