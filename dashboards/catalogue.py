"""Which studies there are to open: in directories, and in Optuna storages."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dashboards import optuna_study
from study.directory import DEFAULT_PARENT
from study.results import find_study
from trainer.errors import UserError

ASK_STORAGES_EVERY = 30.0
"""Seconds for which the list of an Optuna storage's studies counts as new."""


@dataclass(frozen=True)
class Entry:
    """One study that can be opened."""

    name: str
    """Unique among the entries; what the address of a page carries."""
    place: str
    """The study's directory, or the URL of an Optuna storage."""
    study: str | None = None
    """Its name in the Optuna storage; None for a directory."""

    @property
    def shown(self) -> str:
        """The place for eyes: a URL without its password."""
        return self.place if self.study is None else optuna_study.shown(self.place)


def entries(places: Sequence[str]) -> list[Entry]:
    """The studies at `places` in their order. Where two have one name, what holds them tells them apart.

    Args:
        places: study directories, directories that hold studies (the newest comes first), URLs of Optuna storages.
            A directory that holds no study (yet) has no entry.

    Raises:
        UserError: an Optuna storage cannot be read.
    """
    found: list[Entry] = []
    for place in dict.fromkeys(places):
        if optuna_study.is_url(place):
            found += [Entry(name, place, name) for name in _names(place, time.monotonic() // ASK_STORAGES_EVERY)]
        else:
            found += [Entry(directory.name, str(directory)) for directory in directories(Path(place))]
    found = list(dict.fromkeys(found))
    names = [each.name for each in found]
    return [each if names.count(each.name) == 1 else replace(each, name=_longer(each, found)) for each in found]


def directories(place: Path) -> list[Path]:
    """`place` itself when it is a study, else the studies directly under it, the newest first."""
    if (place / "study.yaml").exists():
        return [place.resolve()]
    specs = [path for path in place.glob("[!.]*/study.yaml") if path.exists()]
    return [path.parent.resolve() for path in sorted(specs, key=lambda path: -path.stat().st_mtime)]


def checked(places: Sequence[str]) -> list[str]:
    """`places` with absolute paths; ./studies where there are none. Raises UserError where there is no study."""
    if not places:
        find_study(None)
        return [str(DEFAULT_PARENT.resolve())]
    for place in places:
        if optuna_study.is_url(place):
            if not optuna_study.names(place):
                raise UserError(f"{optuna_study.shown(place)}: holds no Optuna study; give another storage")
        elif not directories(Path(place)):
            if Path(place).is_dir():
                raise UserError(f"{place}: is no study and holds none; give one that fipo launch made, or their parent")
            find_study(Path(place))  # says what is wrong
    return [each if optuna_study.is_url(each) else str(Path(each).resolve()) for each in places]


@functools.lru_cache(maxsize=8)
def _names(url: str, _period: float) -> list[str]:
    return optuna_study.names(url)


def _longer(entry: Entry, found: Sequence[Entry]) -> str:
    """The name with what holds the study: its storage, or as many directories above it as tell it from all others."""
    if entry.study:
        return f"{entry.shown}: {entry.name}"
    parts = Path(entry.place).parts
    others = [Path(each.place).parts for each in found if each.study is None and each.place != entry.place]
    depth = 2
    while any(each[-depth:] == parts[-depth:] for each in others):
        depth += 1
    return "/".join(parts[-depth:])
