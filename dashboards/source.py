"""Reading a study for the pages: in the background when it changes, and a watcher that redraws then."""

from __future__ import annotations

import atexit
import functools
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import streamlit as st

from dashboards import frames, optuna_study
from dashboards.catalogue import Entry, entries
from dashboards.optuna_study import OptunaStudy
from study.lock import driver
from study.results import StudyResults, read_study
from trainer.errors import UserError, root_line

POLL_SECONDS = 1.5
ASK_STORAGE_EVERY, ASK_DATABASE_EVERY = 4, 15
"""Seconds between two readings of what has no file whose change could be seen: a bare Optuna storage, and the database
of a study whose directory tells of new evaluations by itself."""

COLLECT_EVERY = 20
"""Readings after which garbage is looked for."""

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, eq=False)
class Study:
    """One reading of a study: the results and the frames that pages draw from."""

    results: StudyResults
    trials: pl.DataFrame
    evaluations: pl.DataFrame
    name: str | None = None
    """That of its entry, which tells it from other studies; None is that of its directory."""

    @property
    def title(self) -> str:
        """The study's name, with its directory's where that is another one or stands in several places."""
        name, entry = self.results.spec.name, self.name or self.results.directory.name
        return name if name == entry else f"{name} ({entry})"

    @property
    def steps(self) -> int:
        """Training steps that a trial runs when it is not pruned."""
        return max(self.results.spec.steps, self.trials["steps_done"].max() or 0)

    @property
    def sets(self) -> list[str]:
        """Names of the evaluation sets met so far, the one that selects first."""
        return frames.sets(self.evaluations)

    def same(self, other: object) -> bool:
        """Whether `other` would draw the same pages."""
        return (
            isinstance(other, Study)
            and self.results.spec == other.results.spec
            and (self.results.driver is None) == (other.results.driver is None)
            and self.results.waits == other.results.waits
            and self.trials.equals(other.trials)
            and self.evaluations.equals(other.evaluations)
        )


Found = Study | OptunaStudy | UserError


def fingerprint(directory: Path) -> Stamp:
    """Names, sizes and modification times (ns) of the files that the pages read; changes whenever the study does."""
    files = [directory / name for name in ("study.yaml", "optuna.db", "optuna.db-wal", "optuna.journal")]
    try:
        with os.scandir(directory / "trials") as found:
            folders = sorted(entry.path for entry in found if entry.is_dir())
    except OSError:
        folders = []
    files += [Path(folder, name) for folder in folders for name in ("evaluations.jsonl", "metrics.jsonl")]
    stamps = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        stamps.append((str(file), stat.st_size, stat.st_mtime_ns))
    found = driver(directory)
    stamps.append((f"driver {found and found.waits}", int(found is not None), 0))
    local = any((directory / name).exists() for name in ("optuna.db", "optuna.journal"))
    return tuple(stamps) if local else (*stamps, *_clock(ASK_DATABASE_EVERY))


def _clock(every: float) -> Stamp:
    return (("clock", int(time.monotonic() // every), 0),)


def _read_directory(entry: Entry) -> Study:
    results = read_study(Path(entry.place))
    return Study(results, frames.trials(results), frames.evaluations(results), entry.name)


@dataclass(frozen=True)
class Reading:
    """What was found of a study, or why nothing could be read."""

    version: int
    """Counts the readings that found something new."""
    found: Found


class Reader:
    """The newest reading of one study, for every browser alike. It reads in its own thread: no page waits for it."""

    def __init__(self, entry: Entry) -> None:
        self._fingerprint: Callable[[], Stamp]
        self._find: Callable[[], Found]
        self._place = entry.shown
        if entry.study is None:
            self._fingerprint = functools.partial(fingerprint, Path(entry.place))
            self._find = functools.partial(_read_directory, entry)
        else:
            loaded = functools.cache(functools.partial(optuna_study.load, entry.place, entry.study))
            self._fingerprint = lambda: _clock(ASK_STORAGE_EVERY)
            self._find = lambda: optuna_study.read(loaded(), entry.place)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading")
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._latest: Reading | None = None
        self._underway: Future[None] | None = None

    def latest(self) -> Reading:
        """The newest reading; waits only for the very first."""
        if self._latest is None:
            self.refresh().result()
        assert self._latest is not None
        return self._latest

    def current(self) -> Reading:
        """The newest reading, after another if the study has changed since: for a browser that opens it. What was read
        when someone last looked may be hours old."""
        if self._latest is not None and self._fingerprint() != self._stamp:
            self.refresh().result()
        return self.latest()

    def newer_than(self, version: int) -> bool:
        """Whether there is a reading after `version`; begins one when the study has changed since the newest."""
        if self.latest().version == version and self._fingerprint() != self._stamp:
            self.refresh()
        return self.latest().version != version

    def refresh(self) -> Future[None]:
        """Begin a reading unless one is under way."""
        with self._lock:
            if self._underway is None or self._underway.done():
                self._underway = self._pool.submit(self._read)
            return self._underway

    def _read(self) -> None:
        stamp = self._fingerprint()  # before reading: what changes meanwhile is read again
        gc.disable()  # it would look through the many small objects of a reading again and again, for nothing
        try:
            found = self._find()
        except UserError as error:
            found = error
        except Exception as error:  # also where it was read before: what was true then may not be now
            logging.getLogger(__name__).exception("the study could not be read")
            line = f"cannot be read ({root_line(error)}); the terminal that runs the dashboard says more"
            found = UserError(f"{self._place}: {line}")
        finally:
            gc.enable()
        before, self._stamp = self._latest, None if isinstance(found, UserError) else stamp  # it may pass unseen
        if before is None or not _same(before.found, found):
            self._latest = Reading(before.version + 1 if before else 1, found)
            _freeze(collect=self._latest.version % COLLECT_EVERY == 0)


def _freeze(*, collect: bool) -> None:
    """Take all that is alive out of the garbage collector's sight until the next reading; garbage first if `collect`.

    Streamlit collects after every run of a page, of the watcher's too, and would look each time through the million
    objects of a large study. Looking once takes half a second in which no page runs, and finds little: what an older
    reading held goes with it.
    """
    gc.unfreeze()
    if collect:
        gc.collect()
    gc.freeze()


atexit.register(gc.unfreeze)  # or libraries that count their objects at exit would complain of leaks


def _same(one: Found, other: Found) -> bool:
    if isinstance(one, Study):
        return one.same(other)
    return str(one) == str(other) if isinstance(one, UserError) else one == other


@functools.lru_cache(maxsize=8)
def reader(entry: Entry) -> Reader:
    """The one reader of a study in this process."""
    return Reader(entry)


@st.fragment(run_every=POLL_SECONDS)
def watch(places: Sequence[str], known: Sequence[Entry], entry: Entry | None, version: int) -> None:
    """Rerun the page when the study or the list of studies is newer than what it was drawn from.

    Holds no widget, since a timed fragment resets its own.
    """
    try:
        listed = entries(places)
    except UserError:  # a storage that cannot be reached just now; what is on the page stays
        listed = list(known)
    if listed != list(known) or (entry is not None and reader(entry).newer_than(version)):
        st.rerun()
