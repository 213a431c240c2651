"""How a study's own work grows with its number of trials.

    python -m benchmarks.growth_trials

Trials do nothing, as in `benchmarks.overhead`; sampler, pruner and storage are the defaults of a study. The whole goes
through Ray Tune, 8 at a time; the bridge's part of it is timed call by call. The exponent b of cost = a * trials^b is
the slope of a line through the logarithms: 0 is a cost that does not grow.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.overhead import STEPS, ours
from benchmarks.result import Row, show
from study.spec import StudySpec

TRIALS, CONCURRENCY = (50, 100, 200, 400), 8
COSTS = ("ask", "report", "finish", "result", "driver")
"""Milliseconds: per call of the bridge, from result to result of all trials, and of the driver's processor time per
result."""


def timed(method: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """`method`, whose duration is added to `seconds` at each call."""

    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - started)

    return call


def costs(trials: int, storage: str, scratch: Path) -> dict[str, float]:
    """Mean cost in milliseconds of each of COSTS, in a study of that many trials."""
    from study.bridge import Bridge

    seconds: dict[str, list[float]] = {name: [] for name in ("ask", "report", "finish")}
    for name, found in seconds.items():
        setattr(Bridge, name, timed(getattr(Bridge, name), found))
    defaults = {name: StudySpec.model_fields[name].default for name in ("sampler", "pruner")}
    pace = ours(CONCURRENCY, storage, scratch, trials=trials, **defaults)
    return {name: 1000 * statistics.mean(found) for name, found in seconds.items()} | {
        "result": 1000 / pace.rate,
        "driver": pace.cpu,
    }


def measured(trials: int, storage: str) -> dict[str, float]:
    """One run in a process of its own; Ray needs a short path for its sockets."""
    with tempfile.TemporaryDirectory(prefix="gt-", ignore_cleanup_errors=True) as scratch:
        command = [sys.executable, "-m", "benchmarks.growth_trials", "--only", str(trials), storage, scratch]
        told = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        if told.returncode != 0:
            raise RuntimeError(told.stderr[-2000:])
        return json.loads(told.stdout.splitlines()[-1])


def exponent(counts: tuple[int, ...], values: list[float]) -> float:
    """b of values = a * counts^b, by least squares on the logarithms."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def rows(storage: str = "sqlite") -> list[Row]:
    """Each cost at the most trials against that at the fewest."""
    found, made = [], []
    for trials in TRIALS:
        found.append(measured(trials, storage))
        print(f"{trials} trials: {found[-1]}", file=sys.stderr, flush=True)
    for name in COSTS:
        values = [each[name] for each in found]
        steps = [after / before for before, after in itertools.pairwise(values)]
        listed = ", ".join(f"{trials} trials {value:.2f}" for trials, value in zip(TRIALS, values, strict=True))
        made.append(
            Row(
                claim=f"cost per {name}, {TRIALS[-1]} trials of {STEPS} results in {storage}",
                against=f"{TRIALS[0]} trials",
                ours=values[-1],
                peer=values[0],
                unit="ms",
                ratio=values[-1] / values[0],
                spread=(min(steps), max(steps)),
                target="",
                note=f"exponent {exponent(TRIALS, values):.2f}; {listed} ms; the spread is that of one doubling",
            )
        )
    return made


def main() -> int:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=["sqlite", "journal"], default="sqlite")
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        trials, storage, scratch = arguments.only
        print(json.dumps(costs(int(trials), storage, Path(scratch))), flush=True)
        return 0
    show(rows(arguments.storage))
    return 0


if __name__ == "__main__":
    sys.exit(main())
