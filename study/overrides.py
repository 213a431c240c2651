"""`--set key=value`: the last word over a study spec."""

from __future__ import annotations

import difflib
from typing import Any

import yaml

from study.keys import TWINS, check_key, leaves
from study.spec import StudySpec, set_dotted
from trainer.config import TrainerConfig
from trainer.errors import UserError


def assignment(text: str, where: str) -> tuple[str, Any]:
    """Key and value of a ``key=value`` text, the value read as YAML; `where` begins the line of a UserError."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{where} {text}: write key=value, for example trials=8 or fipo.half_life=32")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"{where} {text}: {value} is not a YAML value; quote it") from None


def apply_set(data: dict[str, Any], text: str) -> None:
    """Set a spec key (``trials=8``, ``space.fipo.half_life.low=2``) or a trainer key, which is then sampled no more."""
    key, value = assignment(text, "--set")
    head, _, rest = key.partition(".")
    if head == "space" and rest:
        space = data.get("space") or {}
        name, _, option = rest.rpartition(".")
        swept = space.get(name)
        data["space"] = {**space, **({name: {**swept, option: value}} if isinstance(swept, dict) else {rest: value})}
    elif head in StudySpec.model_fields and head != "trainer":
        set_dotted(data, key, value)
    else:
        key = rest if head == "trainer" else key
        _check_not_of_study(key, value)
        check_key(key, "--set")
        set_dotted(data, f"trainer.{key}", value)
        for gone in (key, TWINS.get(key)):
            if isinstance(data.get("space"), dict):
                data["space"] = {name: each for name, each in data["space"].items() if name != gone}
            if isinstance(data.get("enqueue"), list):
                controls = [_without(control, gone, f"{key}={value}", value) for control in data["enqueue"]]
                data["enqueue"] = [control for control in controls if control is not None]
        if key in TWINS:
            set_dotted(data, f"trainer.{TWINS[key]}", None)


def _check_not_of_study(key: str, value: Any) -> None:
    """Raise UserError for the last word of a key of the study, as in ``workers=4``, that the trainer does not have."""
    if key in leaves(TrainerConfig):
        return
    known = [name for name in leaves(StudySpec) if name not in ("space", "trainer")]
    meant = [name for name in known if "." in name and name.split(".")[-1] == key]
    meant = meant or difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if meant:
        raise UserError(f"--set: {key} is not a known key; did you mean {' or '.join(meant)}? --set {meant[0]}={value}")


def _without(control: Any, key: str | None, change: str, value: Any) -> Any:
    """A control less `key`, which `--set` fixed; None when nothing is left of it.

    Its label tells of the change, since it is no longer what its name promised.
    """
    values = control.get("values") if isinstance(control, dict) else None
    if not isinstance(values, dict) or key not in values:
        return control
    kept = {name: each for name, each in values.items() if name != key}
    label = control.get("label") if values[key] == value else f"{control.get('label')} with {change}"
    return {**control, "label": label, "values": kept} if kept else None
