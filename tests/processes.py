"""Questions to processes that may end at any moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil


def known(process: psutil.Process, ask: Callable[[psutil.Process], Any], *, gone: Any) -> Any:
    """What `ask` says of the process, or `gone` when it has ended meanwhile."""
    try:
        return ask(process)
    except psutil.NoSuchProcess:  # of one that no one has waited for yet too
        return gone
