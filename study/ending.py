"""Why the last driver of a study left off before all was done, for whoever comes when its terminal is gone."""

from __future__ import annotations

import contextlib
from pathlib import Path

from study.clock import now
from trainer.records import write_atomic

_FILE = "ending.txt"


def note_ending(directory: Path, why: str | None) -> None:
    """Keep `why` in the study's directory, with the time; None, as a driver begins or all is done, takes it back."""
    with contextlib.suppress(OSError):  # a full disk is for others to report
        if why is None:
            (directory / _FILE).unlink(missing_ok=True)
            return
        write_atomic(directory / _FILE, f"{now()} {' '.join(why.split())}\n")


def ending(directory: Path) -> str | None:
    """When and why, for example ``2026-01-31T12:05:00+01:00 budget.hours = 2 is over``; None where a driver runs or
    all is done, and after a driver that was killed."""
    try:
        return (directory / _FILE).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
