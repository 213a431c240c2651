"""Local paths, where a name on the hub could stand as well."""

from __future__ import annotations

import os.path


def is_local(path: str) -> bool:
    """Whether `path` is meant as a local one, be it there or not: no hub name begins so."""
    return path.startswith((".", "/", "~"))


def expanded(path: str) -> str:
    """`path` with the home directory in the place of ~, unless it is that of an unknown user."""
    return os.path.expanduser(path)  # noqa: PTH111, pathlib raises for that user
