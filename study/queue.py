"""The queue of a study: its WAITING trials, controls first, then what was enqueued later and confirmations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from study import attributes

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def first(trials: Sequence[FrozenTrial], *, full: bool) -> FrozenTrial | None:
    """The first of the queue that may begin, None where there is none.

    Args:
        trials: all of the study, in their order.
        full: whether as many trials have begun as the study is to have, see `held_back`.
    """
    return next((each for each in trials if each.state.name == "WAITING" and not held_back(each, full=full)), None)


def held_back(trial: FrozenTrial, *, full: bool) -> bool:
    """Whether it waits and may not begin: `trials` of the spec, which was lowered, counts all but confirmations."""
    return full and trial.state.name == "WAITING" and attributes.CONFIRMS not in trial.user_attrs
