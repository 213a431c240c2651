"""Reading a study for the pages: in the background when its files change, and a watcher that redraws then."""

from __future__ import annotations

import functools
import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import streamlit as st

from dashboards import frames
from study.results import StudyResults, read_study
from trainer.config import TrainerConfig
from trainer.errors import UserError

POLL_SECONDS = 1.5

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Study:
    """One reading of a study: the results and the frames that pages draw from."""

    results: StudyResults
    trials: pl.DataFrame
    evaluations: pl.DataFrame

    @property
    def steps(self) -> int:
        """Training steps that a trial runs when it is not pruned."""
        planned = self.results.spec.trainer.get("steps", TrainerConfig.model_fields["steps"].default)
        return max(planned, self.trials["steps_done"].max() or 0)

    @property
    def sets(self) -> list[str]:
        """Names of the evaluation sets met so far, the one that selects first."""
        return frames.sets(self.evaluations)


def fingerprint(directory: Path) -> Stamp:
    """Names, sizes and modification times (ns) of the files that the pages read; changes whenever the study does."""
    files = [directory / name for name in ("study.yaml", "optuna.db", "optuna.db-wal")]
    try:
        with os.scandir(directory / "trials") as entries:
            folders = sorted(entry.path for entry in entries if entry.is_dir())
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
    return tuple(stamps)


@dataclass(frozen=True)
class Reading:
    """What was found in a study directory, or why nothing could be read, as of `stamp`."""

    stamp: Stamp
    found: Study | UserError


class Reader:
    """The newest reading of one study, for every browser alike. It reads in its own thread: no page waits for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading")
        self._lock = threading.Lock()
        self._latest: Reading | None = None
        self._underway: Future[None] | None = None

    def latest(self) -> Reading:
        """The newest reading; waits only for the very first."""
        if self._latest is None:
            self.refresh().result()
        assert self._latest is not None
        return self._latest

    def changed_since(self, stamp: Stamp) -> bool:
        """Whether there is a reading other than that of `stamp`; begins one when the files have changed."""
        if self.latest().stamp == stamp and fingerprint(self.directory) != stamp:
            self.refresh()
        return self.latest().stamp != stamp

    def refresh(self) -> Future[None]:
        """Begin a reading unless one is under way."""
        with self._lock:
            if self._underway is None or self._underway.done():
                self._underway = self._pool.submit(self._read)
            return self._underway

    def _read(self) -> None:
        stamp = fingerprint(self.directory)  # before reading: what changes meanwhile is read again
        try:
            results = read_study(self.directory)
            found: Study | UserError = Study(results, frames.trials(results), frames.evaluations(results))
        except UserError as error:
            found = error
        except Exception:
            logging.getLogger(__name__).exception("the study could not be read")
            raise
        self._latest = Reading(stamp, found)


@functools.lru_cache(maxsize=2)
def reader(directory: Path) -> Reader:
    """The one reader of `directory` in this process."""
    return Reader(directory)


@st.fragment(run_every=POLL_SECONDS)
def watch(directory: Path, stamp: Stamp) -> None:
    """Rerun the page when there is a newer reading. Holds no widget, since a timed fragment resets its own."""
    if reader(directory).changed_since(stamp):
        st.rerun()
