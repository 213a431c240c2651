"""Optuna's journal file of a study, of which a full disk or a power cut may have torn the last line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from trainer.errors import UserError


def journal(file: Path) -> JournalStorage:
    """The storage in `file`, which is made where there is none.

    Raises:
        UserError: a line before the last is no record.
    """
    try:
        return JournalStorage(_WholeLines(str(file)))
    except ValueError as error:
        raise UserError(
            f"{file}: line {_first_broken(file)} is no record ({error}); restore the file from a copy, or what is left"
            " of that line by hand"
        ) from None


class _WholeLines(JournalFileBackend):
    """Optuna's reader leaves out a last line without its end; its writer would go on in it, and spoil both."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        cut_torn_line(Path(self._file_path))
        super().append_logs(logs)


def cut_torn_line(file: Path) -> None:
    """Cut off what `file` has after its last line end. Only the one driver of the study may do so."""
    with file.open("rb+") as opened:
        if opened.seek(0, os.SEEK_END) == 0:
            return
        opened.seek(-1, os.SEEK_END)
        if opened.read(1) == b"\n":
            return
        opened.seek(0)
        opened.truncate(opened.read().rfind(b"\n") + 1)
        os.fsync(opened.fileno())


def _first_broken(file: Path) -> int:
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError:
            return number
    return 0
