"""What a trial is given to run, and what it reports at each evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Assignment:
    """What a trial is to run: its number, and the directory that holds its config and that it writes to."""

    number: int
    params: dict[str, Any]
    """Sampled values by dotted trainer key."""
    directory: Path


@dataclass(frozen=True)
class Report:
    """A trial at one evaluation."""

    step: int
    """Training step."""
    value: float
    """The study's metric."""
    samples: int = 0
    """k, responses per problem."""
    solved: Sequence[int] = ()
    """Correct responses of each problem, each 0..k; stored where the pruner looks at them."""
    length: float = 0.0
    """Mean response length in tokens, the second objective where there is one."""
    seconds: float = 0.0
    """Wall time of the run so far."""
    tokens: int = 0
    """Training tokens sampled so far."""
    collapsed: str | None = None
    """Why the run has collapsed, if it has."""
