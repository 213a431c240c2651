"""What a trial is given to run, and what it says: a report at each evaluation, looks at one that races, last words.

Tune carries all three as flat dicts, a report by the names of its fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from trainer.config import TrainerConfig


@dataclass(frozen=True)
class Assignment:
    """What a trial is to run: its number, and the directory that holds its config and that it writes to."""

    number: int
    params: dict[str, Any]
    """Sampled values by dotted trainer key."""
    directory: Path
    config: TrainerConfig
    known: Mapping[str, Any]
    """Its user attributes, see `study.attributes`."""


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


class RacingLook(TypedDict):
    """A racing evaluation under way."""

    step: int
    """Training step."""
    look: int
    """Samples per problem so far."""
    solved: list[int]
    """Correct ones of each problem."""


class LastWords(TypedDict, total=False):
    """The end of a trial, but for one that completes: that is ``{"done": True}``, which Tune keeps to itself."""

    failed: str
    """Why it ends as FAIL, in one line."""
    user_error: bool
    """With `failed`: whether the user is to act."""
    unexpected: bool
    """With `failed`: whether no one has thought of it, as for what a library raises."""
    abort: str
    """Why the whole study ends, as for a full disk."""
    stopped: bool
    """Its bridge had it stop."""
