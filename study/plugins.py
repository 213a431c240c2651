"""Options of Optuna's samplers and pruners, read from Optuna's own signatures so that none is invented or missed."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Collection
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainer.errors import UserError

_SYNONYMS = {"asha": "successive-halving", "sobol": "qmc", "bayesian": "gp", "exhaustive": "grid"}
"""What others call a sampler or pruner, and what Optuna does."""
_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}


def check_name(kind: str, name: str, known: Collection[str]) -> None:
    """Raise UserError unless `name` is one of `known`; `kind` as of `complete_options`."""
    if name not in known:
        synonym = _SYNONYMS.get(name.lower())
        close = [synonym] if synonym in known else difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "choose one"
        raise UserError(f"{kind}.name = {name!r} is not known; allowed: {', '.join(known)}; {hint}")


def known_options(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor arguments of `cls` that YAML can express: numbers, words, switches."""
    if cls.__init__ is object.__init__:
        return {}
    return {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if all(part in _PLAIN for part in _parts(parameter))
    }


def complete_options(kind: str, name: str, cls: type, options: dict[str, Any]) -> dict[str, Any]:
    """`options` with Optuna's defaults filled in and every value checked against its annotation.

    Args:
        kind: ``"sampler"`` or ``"pruner"``, the key in the spec.
    Raises:
        UserError: an unknown option, a missing one, or a value of the wrong type.
    """
    known = known_options(cls)
    for key in options:
        if key not in known:
            allowed = ", ".join(known) if known else "none, it takes no options"
            raise UserError(f"{kind}.{key} is not an option of {name}; known options: {allowed}; remove or rename it")
    completed = {}
    for key, parameter in known.items():
        if key not in options:
            if parameter.default is inspect.Parameter.empty:
                raise UserError(f"{kind}.{key} is missing; {name} needs it, add it")
            completed[key] = parameter.default
            continue
        wanted = " or ".join(_parts(parameter))
        try:
            annotation: Any = _PLAIN[_parts(parameter)[0]]
            for part in _parts(parameter)[1:]:
                annotation = annotation | _PLAIN[part]
            completed[key] = TypeAdapter(annotation).validate_python(options[key])
        except ValidationError:
            raise UserError(f"{kind}.{key} = {options[key]!r}: {name} wants {wanted} here; change it") from None
    return completed


def build(kind: str, name: str, cls: type, options: dict[str, Any]) -> Any:
    """Construct `cls`. Raises UserError with Optuna's own words when it refuses a value."""
    from optuna.exceptions import ExperimentalWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return cls(**options)
    except (ValueError, TypeError) as error:
        raise UserError(f"{kind} {name}: {str(error).rstrip('.')}; change that option") from None
    except ImportError as error:
        raise UserError(f"{kind} {name} needs the package {error.name}; pip install {error.name}") from None


def _parts(parameter: inspect.Parameter) -> list[str]:
    return [part.strip().strip("'") for part in inspect.formatannotation(parameter.annotation).split("|")]
