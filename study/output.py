"""What a command writes to whom it may outlive: a study goes on where no one reads its output any more."""

from __future__ import annotations

import os

from rich.console import Console


class Output(Console):
    """A console whose reader may end first, as ``head``, ``tee`` or a connection: the rest is unsaid.

    Rich's own ends the process there, and sends the process's standard output, by then a study's driver.log, nowhere.
    """

    def on_broken_pipe(self) -> None:
        """Write nothing more; what the file still holds goes nowhere when it is closed."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def say(console: Console, line: str, style: str | None = None) -> None:
    """Write `line` as it is, however long."""
    console.print(line, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)
