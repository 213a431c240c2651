"""The confirmation stage: the best configurations again, with other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.metric import completed_value
from study.spec import Replicas

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

CONFIRMS = "confirms"
"""Trial user attribute: the number of the trial whose configuration this one trains with another seed."""


@dataclass(frozen=True)
class Confirmation:
    """A trial to enqueue."""

    params: dict[str, Any]
    attributes: dict[str, Any]


def confirmations(trials: Sequence[FrozenTrial], replicas: Replicas, *, seed: int) -> list[Confirmation]:
    """The confirming trials that are not there yet, best configuration first. Asked again, it adds nothing twice.

    Args:
        trials: all of the study, none of them running but confirmations.
        seed: the seed that the confirmed trials were trained with; theirs are the next ones.
    """
    there = {(each.user_attrs[CONFIRMS], each.user_attrs["fixed"]["seed"]) for each in trials if _confirms(each)}
    complete = [each for each in trials if each.state.name == "COMPLETE" and not _confirms(each)]
    best = sorted(complete, key=lambda each: (-completed_value(each), each.number))[: replicas.top]
    return [
        Confirmation(
            dict(each.params),
            {CONFIRMS: each.number, "fixed": {**each.user_attrs.get("fixed", {}), "seed": seed + other}},
        )
        for each in best
        for other in range(1, replicas.seeds + 1)
        if (each.number, seed + other) not in there
    ]


def _confirms(trial: FrozenTrial) -> bool:
    return CONFIRMS in trial.user_attrs
