"""How times of this machine's clock are written: to the second, with their zone."""

from __future__ import annotations

from datetime import datetime


def now() -> str:
    """For example ``2026-01-31T12:05:00+01:00``."""
    return _written(datetime.now())


def with_zone(moment: datetime | None) -> str | None:
    """A naive time of this machine's clock; None stays None."""
    return None if moment is None else _written(moment)


def _written(moment: datetime) -> str:
    return moment.astimezone().isoformat(timespec="seconds")
