"""The confirmation stage: the best configurations and the study's controls again, with other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study import attributes
from study.evidence import firsts
from study.metric import completed_value
from study.spec import Replicas

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Confirmation:
    """A trial to enqueue."""

    params: dict[str, Any]
    attributes: dict[str, Any]
    """Of the user, see `study.attributes`."""


def confirmations(trials: Sequence[FrozenTrial], replicas: Replicas, *, controls: int, seed: int) -> list[Confirmation]:
    """The confirming trials that are not there yet, best configuration first. Asked again, it adds nothing twice; nor
    does it confirm what `firsts` says of a trial that another repeats.

    The controls come last, whatever their rank: a mean that they are compared with takes as many seeds on both sides.

    Args:
        trials: all of the study, none of them running but confirmations.
        controls: how many the study's file has; they entered the queue first.
        seed: the seed of the study's trials, but of controls with one of their own; fresh ones are the next.
    """
    confirming = [each.user_attrs for each in trials if _confirms(each)]
    complete = [each for each in trials if each.state.name == "COMPLETE" and not _confirms(each)]
    first = firsts((each.number, each.params, each.user_attrs.get(attributes.BESIDE, {})) for each in complete)
    there = {(first[each[attributes.CONFIRMS]], each[attributes.BESIDE]["seed"]) for each in confirming}
    configurations = [each for each in complete if first[each.number] == each.number]
    ranked = sorted(configurations, key=lambda each: (-completed_value(each), each.number))
    own = [each for each in ranked if each.number < controls]
    found = []
    for each in [each for each in ranked if each not in own][: replicas.top] + own:
        beside = each.user_attrs.get(attributes.BESIDE, {})
        for fresh in range(1, replicas.seeds + 1):
            other = beside.get("seed", seed) + fresh  # a control may have a seed of its own
            if (each.number, other) not in there:
                told = {attributes.CONFIRMS: each.number, attributes.BESIDE: {**beside, "seed": other}}
                found.append(Confirmation(dict(each.params), told))
    return found


def _confirms(trial: FrozenTrial) -> bool:
    return attributes.CONFIRMS in trial.user_attrs
