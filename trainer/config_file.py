"""Files of settings that a person wrote: YAML read into a model, and what is wrong with it in one line."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
_BOTH = ("epsilon_f_low", "epsilon_f_high")
ALIASES = {
    "lr": ("learning_rate",),
    "tau": ("half_life",),
    "eps": _BOTH,
    "epsilon": _BOTH,
    "eps_f": _BOTH,
    "epsilon_f": _BOTH,
}
"""What papers and other trainers call a key, and its last part here."""
_UNITS = {"k": 1e3, "K": 1e3, "M": 1e6, "%": 0.01}


class _UniqueKeys(yaml.SafeLoader):
    """`yaml.safe_load`'s loader, which takes the last of equal keys in silence; YAML 1.2 (3.2.1.3) forbids them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            before = first.setdefault((key.tag, key.value), key)
            if before is not key:
                problem = f"the key {key.value} stands in line {before.start_mark.line + 1} already"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return node


def read_config(model: type[Model], path: Path) -> Model:
    """Build `model` from the YAML file `path`. Raises UserError for what is not there, no YAML or not valid."""
    return validate(model, read_yaml(path), source=str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping as `yaml.safe_load` does. Raises UserError when there is none, or a key stands twice."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the path of a YAML file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}:{line} is not valid YAML ({getattr(error, 'problem', error)}); mend that line"
        ) from None
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: holds {type(data).__name__}, not a mapping of keys to values; see search_spaces/tiny.yaml"
        )
    return data


def validate(model: type[Model], data: dict[str, Any], *, source: str) -> Model:
    """Build `model` from `data`; `source` (a file name) and the key are named when a value is refused.

    Raises:
        UserError: one line for the first bad value.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(model, error)}") from None


def explain(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    parts, inner = _walk(model, first["loc"])
    key = ".".join(parts)  # empty for a validator on the whole model
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = sorted(inner.model_fields)
        meant = [name for name in ALIASES.get(parts[-1], ()) if name in known]
        close = meant or difflib.get_close_matches(parts[-1], known, n=1)
        hint = f"did you mean {' and '.join(close)}?" if close else "remove it"
        return f"{key} is not a known key; known here: {', '.join(known)}; {hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{key} is missing; add it{more}"
    if first["type"] == "value_error":  # our own validators say the value, the range and the mend themselves
        return (f"{key}: " if key else "") + message + more
    return f"{key} = {first['input']!r}: {message[0].lower()}{message[1:]}; {_remedy(first)}{more}"


def _remedy(error: ErrorDetails) -> str:
    """What to write instead of a value that pydantic refused."""
    kind, given = error["type"], error["input"]
    if kind in ("float_parsing", "int_parsing") and isinstance(given, str):
        number = re.fullmatch(r"\s*([0-9.]*[0-9])\s*([A-Za-z%]+)\s*", given)
        if number:
            return f"write the number alone, {float(number[1]) * _UNITS.get(number[2], 1):g}"
    if kind == "less_than_equal" and error.get("ctx", {}).get("le") == 1 and 2 <= given <= 100:
        return f"write a fraction, {given / 100:g} for {given:g} %"
    return "change it"


def _walk(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[list[str], type[BaseModel]]:
    """The keys a person wrote along `location` (without the tags that pydantic adds) and the model around the last."""
    keys, inner, annotation = [], model, model
    for part in location:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
        tagged = [each for each in members if isinstance(each, type) and part in _literals(each)]
        if tagged:
            annotation = inner = tagged[0]
            continue
        keys.append(str(part))
        optional = [each for each in members if each is not type(None)]
        annotation = optional[0] if len(optional) == 1 else annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            inner = annotation
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field is not None else Any
        elif get_origin(annotation) in (dict, tuple, list):
            annotation = get_args(annotation)[get_origin(annotation) is dict]
    return keys, inner


def _literals(model: type) -> list[Any]:
    fields = model.model_fields.values() if issubclass(model, BaseModel) else ()
    return [each for field in fields if get_origin(field.annotation) is Literal for each in get_args(field.annotation)]
