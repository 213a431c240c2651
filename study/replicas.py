"""The confirmation stage: the best configurations and the study's controls again, with other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study import attributes
from study.controls import is_control
from study.evidence import firsts
from study.metric import completed_value
from study.spec import StudySpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Confirmation:
    """A trial to enqueue."""

    params: dict[str, Any]
    attributes: dict[str, Any]
    """Of the user, see `study.attributes`."""


def confirmations(trials: Sequence[FrozenTrial], spec: StudySpec) -> list[Confirmation]:
    """The confirming trials that are not there yet, best configuration first. Asked again, it adds nothing twice; nor
    does it confirm what `firsts` says of a trial that another repeats.

    The controls come last, whatever their rank: a mean that they are compared with takes as many seeds on both sides.

    Args:
        trials: all of the study, none of them running but confirmations.
        spec: says how many, if any. Fresh seeds are the next after that of the study's trials, or a control's own.
    """
    if spec.replicas is None:
        return []
    confirming = [each.user_attrs for each in trials if _confirms(each)]
    complete = [each for each in trials if each.state.name == "COMPLETE" and not _confirms(each)]
    controls = {each.number for each in complete if is_control(spec, each)}
    complete.sort(key=lambda each: (each.number not in controls, each.number))
    first = firsts((each.number, each.params, each.user_attrs.get(attributes.BESIDE, {})) for each in complete)
    there = {(first[each[attributes.CONFIRMS]], each[attributes.BESIDE]["seed"]) for each in confirming}
    configurations = [each for each in complete if first[each.number] == each.number]
    ranked = sorted(configurations, key=lambda each: (-completed_value(each), each.number))
    own = [each for each in ranked if each.number in controls]
    found = []
    for each in [each for each in ranked if each.number not in controls][: spec.replicas.top] + own:
        beside = each.user_attrs.get(attributes.BESIDE, {})
        for fresh in range(1, spec.replicas.seeds + 1):
            other = beside.get("seed", spec.training_seed) + fresh  # a control may have a seed of its own
            if (each.number, other) not in there:
                told = {attributes.CONFIRMS: each.number, attributes.BESIDE: {**beside, "seed": other}}
                found.append(Confirmation(dict(each.params), told))
    return found


def _confirms(trial: FrozenTrial) -> bool:
    return attributes.CONFIRMS in trial.user_attrs
