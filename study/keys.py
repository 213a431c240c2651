"""The dotted keys of a trainer config, as a study's space and `--set` name them."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel

from trainer.config import TrainerConfig
from trainer.config_file import ALIASES
from trainer.errors import UserError

TWINS = {"fipo.gamma": "fipo.half_life", "fipo.half_life": "fipo.gamma"}
"""Two names of one quantity."""


def check_key(key: str, where: str) -> None:
    """Raise UserError unless `key` can be set; `where` begins the line."""
    known = leaves(TrainerConfig)
    if key in known:
        return
    inside = [name for name in known if name.startswith(key + ".")]
    if inside:
        raise UserError(f"{where}: {key} is a group of keys; name one of {', '.join(inside)}")
    close = same_name(key.split(".")[-1]) or difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {' and '.join(close)}?" if close else f"known: {', '.join(known)}"
    raise UserError(f"{where}: {key} is not a known trainer key; {hint}")


def same_name(last: str) -> list[str]:
    """The trainer keys whose last part is `last`, or what it is called elsewhere."""
    return [name for name in leaves(TrainerConfig) if name.split(".")[-1] in (last, *ALIASES.get(last, ()))]


def is_whole(key: str) -> bool:
    """Whether trainer key `key` takes whole numbers, and maybe null."""
    kind = leaves(TrainerConfig).get(key)
    return int in (kind, *get_args(kind))


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Type by dotted key of everything that can be set."""
    types: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            types |= leaves(field.annotation, f"{prefix}{name}.")
        else:
            types[prefix + name] = field.annotation
    return types
