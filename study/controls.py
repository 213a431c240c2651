"""Controls: the trials that all others are compared with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from study import attributes
from study.space import Value
from study.spec import StudySpec
from trainer.config import INFLUENCE

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def is_control(spec: StudySpec, trial: FrozenTrial) -> bool:
    """Whether others are compared with `trial`: one of the study file's `enqueue`, or a DAPO that was enqueued later,
    unless all trials of the study are."""
    if attributes.LABEL not in trial.user_attrs:
        return False
    if trial.number < len(spec.enqueue):  # they enter the queue first
        return True
    return joins_controls(spec, given(trial) | trial.user_attrs.get(attributes.BESIDE, {}))


def joins_controls(spec: StudySpec, values: Mapping[str, Value]) -> bool:
    """Whether what is enqueued later with these `values` is a control: a DAPO where not all trials are."""
    return is_dapo(spec, values) and not is_dapo(spec, {})


def given(trial: FrozenTrial) -> dict[str, Any]:
    """Its values by key of the space; of one that still waits those that it was enqueued with."""
    return dict(trial.params) or dict(trial.system_attrs.get("fixed_params", {}))


def is_dapo(spec: StudySpec, values: Mapping[str, Value]) -> bool:
    """Whether every influence weight is 1 in a trial with these `values`, whatever the sampler gives beside them."""
    return set(weight_bounds(spec, values).values()) == {0}


def weight_bounds(spec: StudySpec, values: Mapping[str, Value]) -> dict[str, Any]:
    """The bounds of the influence weights in a trial with these `values`, by key; None where the sampler gives one."""
    fipo = spec.trainer_values(values).get("fipo", {})
    return {f"fipo.{name}": fipo.get(name) for name in ("epsilon_f_low", "epsilon_f_high")}


def left_to_sampler(spec: StudySpec, values: Mapping[str, Value]) -> list[str]:
    """The keys of the space that a control with these `values` leaves out, so that the sampler gives them; without
    those that decide nothing."""
    return deciding(spec, values, [key for key in spec.space if key not in values])


def deciding(spec: StudySpec, values: Mapping[str, Value], keys: Iterable[str]) -> list[str]:
    """Those of `keys` that decide something in a trial with these `values`: in DAPO FIPO's own do not."""
    dapo = is_dapo(spec, values)
    return [key for key in keys if not dapo or key.removeprefix("fipo.") not in INFLUENCE]


def sampled_dapo(spec: StudySpec) -> Iterator[str]:
    """That the sampler may draw DAPO, in which the other keys of FIPO that it draws decide nothing."""
    bounds = weight_bounds(spec, {})
    zeros = {key: 0 for key in bounds if 0 in getattr(spec.space.get(key), "values", ())}
    idle = [key for key in spec.space if key.removeprefix("fipo.") in INFLUENCE and key not in bounds]
    if zeros and idle and is_dapo(spec, zeros):
        decide = "decides" if len(idle) == 1 else "decide"
        yield (
            f"space: a trial with {_listed(zeros)} is DAPO, in which {', '.join(idle)} {decide} nothing; DAPO once,"
            " under enqueue, is enough"
        )


def loose_controls(spec: StudySpec) -> Iterator[str]:
    """Where a control is not the fixed point that its label says, or is another's twin."""
    same = dict[str, str]()
    for control in spec.enqueue:
        if left := left_to_sampler(spec, control.values):
            it = "it" if len(left) == 1 else "them"
            keys = ", ".join(left)
            yield f"enqueue {control.label}: leaves out {keys}, so the sampler chooses {it}; give {it} a value"
        bounds, values = weight_bounds(spec, control.values), spec.trainer_values(control.values)
        clips = {f"fipo.{name}": values.get("fipo", {}).get(name) for name in ("clip_low", "clip_high")}
        named = re.search("dapo|grpo", control.label, re.IGNORECASE)
        if named and None not in bounds.values() and any(bounds.values()):
            yield (
                f"enqueue {control.label}: has {_listed(bounds)}, so it is FIPO, with influence weights that are not"
                " all 1; set both to 0, or give it another label"
            )
        elif named and named[0].lower() == "grpo" and None not in clips.values() and len(set(clips.values())) > 1:
            yield (
                f"enqueue {control.label}: has {_listed(clips)}, which is DAPO's clip-higher; set both to one value, or"
                " give it another label"
            )
        earlier = same.setdefault(json.dumps(values, sort_keys=True), control.label)
        if earlier != control.label and spec.space.keys() <= control.values.keys():
            yield f"enqueue {control.label}: is the same as {earlier}, and both count once; change one, or remove it"


def _listed(values: Mapping[str, float]) -> str:
    return " and ".join(f"{key} = {value:g}" for key, value in values.items())
