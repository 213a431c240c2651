"""What ran: the versions of the packages that decide a study's numbers, and the commit of this code."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from trainer.records import write_atomic

PACKAGES = ("fipo-study", "torch", "transformers", "ray", "optuna", "numpy")


def environment() -> str:
    """Versions and commit in one line, for example ``fipo-study 0.1.0, torch 2.13.0, ..., commit 1a2b3c``."""
    return ", ".join([*(f"{name} {version(name)}" for name in PACKAGES), _commit()])


def note_environment(directory: Path) -> None:
    """Add the environment to what the study in `directory` has run with, unless it was the last one already."""
    here, before = environment(), noted_environment(directory)
    if before is None or before.splitlines()[-1] != here:
        write_atomic(directory / "environment.txt", f"{before}\n{here}\n" if before else f"{here}\n")


def noted_environment(directory: Path) -> str | None:
    """What the study has run with, a line for each change; None when it was not noted."""
    try:
        return (directory / "environment.txt").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _commit() -> str:
    """Of this code, when it runs from a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return "no checkout, so no commit"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "commit unknown"
    return f"commit {done.stdout.strip()}"
