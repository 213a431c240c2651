"""Bash scripts: every value quoted, every line of text a comment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

HYDRA_WORDS = ("true", "false", "null", "nan", "inf")
Section = tuple[str, Sequence[str]]
"""A heading and the arguments below it, as the program is to receive them."""


def comments(lines: Iterable[str]) -> str:
    """`lines` as comments of bash and YAML; whatever could end a comment or upset a terminal becomes a space."""
    return "".join(f"# {plain(line)}".rstrip() + "\n" for line in lines)


def plain(text: str) -> str:
    """`text` in one line of printable characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def script(header: Iterable[str], command: str, sections: Iterable[Section], *, setup: str = "") -> str:
    """A bash script that replaces itself by `command` with the arguments of `sections`, then its own.

    Args:
        header: lines for the top.
        command: the program, in bash, as it is.
        sections: arguments, quoted here.
        setup: bash lines before, as they are.
    """
    body = "".join(
        f"\n    # {plain(title)}\n" + "".join(f"    {shlex.quote(argument)}\n" for argument in arguments)
        for title, arguments in sections
    )
    return (
        f"#!/usr/bin/env bash\n{comments(header)}set -euo pipefail\n{setup}arguments=({body})\n"
        f'# What is given to this script comes last and wins.\nexec {command} "${{arguments[@]}}" "$@"\n'
    )


def option(name: str, value: object) -> str:
    """``--name=value``; booleans in lower case, numbers in full precision."""
    return f"--{name}={word(value)}"


def word(value: object) -> str:
    """A value as a command line says it; a whole float without its point."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def hydra(key: str, value: object) -> str:
    """``key=value`` in Hydra's grammar (https://hydra.cc/docs/advanced/override_grammar/basic/)."""
    return f"{key}={_hydra_value(value)}"


def _hydra_value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_hydra_value, value))}]"
    if isinstance(value, bool | int | float):
        return str(value)
    text = str(value)
    if re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_/.-]*", text) and text.lower() not in HYDRA_WORDS:
        return text
    # Within quotes a backslash counts only before a quote: double those, and the ones at the end.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)\Z", r"\1\1", escaped) + "'"
