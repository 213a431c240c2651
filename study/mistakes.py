"""The mistakes of a study file, each in one line: where, what stands there, and what to write.

All of a stage are told together, and the next stage once there are none: it would be misled by them.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails

from study.keys import is_whole, leaves, same_name
from study.spec import set_dotted
from trainer.config import EvaluationConfig, TrainerConfig
from trainer.config_file import explain
from trainer.errors import UserError

_TYPES = ("uniform", "log-uniform", "int", "choice", "grid")
_SYNONYMS = {"float": "uniform", "categorical": "choice", "integer": "int", "log": "log-uniform"}
_SHAPES = {
    "model_type": "{key} = {value}: a mapping belongs here; write {{key: value, ...}}",
    "dict_type": "{key} = {value}: a mapping belongs here; write {{key: value, ...}}",
    "tuple_type": "{key} = {value}: a list belongs here; write [{value}]",
    "too_short": "{key} is empty; give at least one",
    "invalid_key": "{key} is no word, as YAML reads it; write it in quotes",
}
"""What pydantic says in the words of Python."""
_MEMBERS = (("bool",), ("int",), ("float",), ("str",))
"""What pydantic adds to the place of an error for each kind of value that was tried."""


class SpecRefused(UserError):
    """A study file with mistakes. Its text is the first of them and how many more there are."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        more = f" (and {len(lines) - 1} more; fipo validate tells all)" if len(lines) > 1 else ""
        super().__init__(f"{path}: {lines[0]}{more}")
        self.lines = [f"{path}: {line}" for line in lines]


class Mistakes:
    """Notes what is wrong: a UserError inside ``with mistakes:`` is one more line, and no end."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, UserError):
            return False
        self.lines.append(str(error))
        return True

    def settle(self, path: Path) -> None:
        """Go on only without mistakes, for what follows would be misled by them.

        Raises:
            SpecRefused: there are some in the file at `path`.
        """
        if self.lines:
            raise SpecRefused(path, list(dict.fromkeys(self.lines)))


def explained(model: type[BaseModel], data: Mapping[str, Any]) -> dict[tuple[Any, ...], str]:
    """Every mistake that `model` finds in `data`: its place, and the line that tells it."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        found: dict[tuple[Any, ...], str] = {}
        for each in error.errors(include_url=False):
            place = each["loc"]
            plain = place[-1:] in _MEMBERS and each["type"].startswith(str(place[-1]))
            place = place[:-1] if plain else place  # one value, tried as each kind that it might be
            if not any(known[: len(place)] == place for known in found):  # nor what follows from another mistake
                found[place] = _no_plain_value(place, each["input"]) if plain else _line(model, each, data)
        return found
    return {}


def _line(model: type[BaseModel], error: ErrorDetails, data: Mapping[str, Any]) -> str:
    place, value = error["loc"], error["input"]
    if place == ("metric",) and (line := _with_k(value, data)):
        return line
    if place[0:1] == ("space",) and len(place) == 2 and (line := _no_distribution(str(place[1]), value)):
        return line
    if error["type"] == "extra_forbidden" and (line := _elsewhere(model, place, value)):
        return line
    if model is TrainerConfig and isinstance(value, dict) and "type" in value and error["type"] != "extra_forbidden":
        key = ".".join(map(str, place))
        return f"{key} = {flow(value)}: trainer holds one value for each key; move it to space, as {key}"
    if error["type"] == "model_type" and (keys := _inner_keys(model, place)):
        return f"{_key(place)} = {flow(value)}: a mapping belongs here; its keys are {', '.join(keys)}"
    if error["type"] in _SHAPES:
        return _SHAPES[error["type"]].format(key=_key(place), value=flow(value))
    single = InitErrorDetails(type=error["type"], loc=place, input=value, ctx=error.get("ctx", {}))
    return explain(model, ValidationError.from_exception_data(model.__name__, [single]))


def _inner_keys(model: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    """The keys of the model at `place`; none where it lies within a list or a mapping of any keys."""
    for part in place:
        field = model.model_fields.get(str(part))
        found = [each for each in (getattr(field, "annotation", None), *get_args(getattr(field, "annotation", None)))
                 if isinstance(each, type) and issubclass(each, BaseModel)]  # fmt: skip
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)


def _key(place: tuple[Any, ...]) -> str:
    """The key at `place` as a person wrote it: pydantic puts the type of a distribution after its key."""
    tag = 2 if place[0] == "space" else len(place)
    return ".".join(map(str, (*place[:tag], *place[tag + 1 :])))


def _no_plain_value(place: tuple[Any, ...], value: Any) -> str:
    """What stands where a number, a word, true or false belongs."""
    key = _key(place)
    if isinstance(value, dict) and value and isinstance(place[-1], str):
        return f"{key} = {flow(value)} is nested; write its keys with dots, {_dotted(str(place[-1]), value)}"
    return f"{key} = {flow(value)}: allowed is one number, word, true or false; change it"


def _with_k(metric: Any, data: Mapping[str, Any]) -> str | None:
    """What to write for ``avg@32``; None for what is no metric with a number."""
    found = re.fullmatch(r"(avg|cons|pass)@(\d+)", metric) if isinstance(metric, str) else None
    if found is None:
        return None
    trainer, (name, wanted) = data.get("trainer"), found.groups()
    line = f"metric = {metric!r}: write {name}@k; k is trainer.evaluation.sets[0].samples"
    try:
        evaluation = EvaluationConfig.model_validate(trainer.get("evaluation", {}) if isinstance(trainer, dict) else {})
    except ValidationError:  # which is told in lines of its own
        return line
    samples = evaluation.sets[0].samples
    mend = "" if samples == int(wanted) else f"; set that to {wanted} where {wanted} is meant"
    return f"{line}, here {samples}{mend}"


def _no_distribution(key: str, value: Any) -> str | None:
    """What is wrong with a value of space that says no known type; None for one that does."""
    where, kind = f"space.{key}", "int" if is_whole(key) else "uniform"
    if isinstance(value, list):
        numbers = leaves(TrainerConfig).get(key) is not bool and all(isinstance(each, int | float) for each in value)
        ordered = len(value) == 2 and numbers and value[0] < value[1]
        between = f", or {{type: {kind}, low: {value[0]}, high: {value[1]}}} for what lies between" if ordered else ""
        return (
            f"{where} = {flow(value)} is a list; write {{type: choice, values: {flow(value)}}} to choose among these"
            f"{between}"
        )
    if not isinstance(value, dict):
        return (
            f"{where} = {flow(value)} is one value, which does not vary; write {_nested(f'trainer.{key}', value)}, or a"
            f" distribution such as {{type: {kind}, low: ..., high: ...}}"
        )
    if "type" in value:
        given = str(value["type"])
        close = difflib.get_close_matches(given.replace("_", "-").lower(), _TYPES, n=1, cutoff=0.7)
        meant = _SYNONYMS.get(given.lower()) or (close[0] if close else None)
        if given in _TYPES:
            return None
        hint = f"did you mean {meant}? write type: {meant}" if meant else "choose one"
        return f"{where}.type = {given!r} is not known; allowed: {', '.join(map(repr, _TYPES))}; {hint}"
    if value and all(isinstance(each, dict) for each in value.values()):
        return f"{where} is nested; write the keys of space with dots, {_dotted(key, value)}"
    meant = "choice" if "values" in value else "int" if is_whole(key) else "uniform or log-uniform"
    return f"{where}.type is missing; add type: {meant}"


def _elsewhere(model: type[BaseModel], place: tuple[Any, ...], value: Any) -> str | None:
    """What to write for a key that is known, but in another form or under another heading."""
    key = ".".join(map(str, place))
    if key == "seeds":
        many = value if type(value) is int and value > 1 else 3
        return (
            f"seeds = {flow(value)} is no key here; write replicas: {{seeds: {many}}} beside space, which trains the"
            f" best configurations with {many} fresh seeds each"
        )
    if model is TrainerConfig:
        if "." in str(place[-1]):
            return f"{key} = {flow(value)} has dots; under trainer keys are nested, write {_nested(key, value)}"
        if len(place) == 1 and (meant := same_name(key)):
            written = " or ".join(_nested(each, value) for each in meant)
            return f"{key} = {flow(value)} is no key of the trainer itself; did you mean {written}?"
    elif len(place) == 1 and key.split(".")[0] in TrainerConfig.model_fields:
        return f"{key} is a key of the trainer; write {_nested(f'trainer.{key}', value)}"
    return None


def flow(value: Any) -> str:
    """A value as it may stand in one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return value if isinstance(value, str) and value.replace("-", "").isalnum() else json.dumps(value, default=str)


def _nested(key: str, value: Any) -> str:
    """``fipo: {gamma: 0.9}`` for the key fipo.gamma."""
    data: dict[str, Any] = {}
    set_dotted(data, key, value)
    return flow(data)[1:-1]


def _dotted(key: str, value: Any) -> str:
    """``fipo.gamma: ...``, the first key of a nested value."""
    while isinstance(value, dict) and value and not {"type", "low", "values"} & set(value):
        inner, value = next(iter(value.items()))
        key = f"{key}.{inner}"
    return f"{key}: {flow(value)}"
