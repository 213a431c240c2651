"""Reading a study for the pages: cached until its files change, and a watcher that redraws when they do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import streamlit as st

from dashboards import frames
from study.results import StudyResults, read_study
from trainer.config import TrainerConfig

POLL_SECONDS = 2.0


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


def fingerprint(directory: Path) -> tuple[tuple[str, int, int], ...]:
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


@st.cache_resource(max_entries=2, show_spinner="Reading the study")
def read(directory: str, stamp: tuple[tuple[str, int, int], ...]) -> Study:
    """Read the study once per `stamp` (see `fingerprint`), for every browser alike. Raises UserError."""
    results = read_study(Path(directory))
    return Study(results, frames.trials(results), frames.evaluations(results))


@st.fragment(run_every=POLL_SECONDS)
def watch(directory: Path, stamp: tuple[tuple[str, int, int], ...]) -> None:
    """Rerun the page when the study's files changed. Holds no widget, since a timed fragment resets its own."""
    if fingerprint(directory) != stamp:
        st.rerun()
