"""How a study's own work grows with its number of trials.

    python -m benchmarks.growth_trials

The bridge of a study with the default sampler, pruner and storage is driven without Ray: 8 trials at a time of 10
results each, as many as a tiny trial tells. Costs are processor milliseconds of the calls, which other work on the
machine changes little. The exponent b of cost = a * trials^b is the slope of a line through the logarithms: 0 is a cost
that does not grow.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import Row, show
from study.assignment import Report
from study.bridge import Bridge
from study.directory import Staging
from study.spec import StudySpec
from study.storage import driving

TRIALS, CONCURRENCY, RESULTS = (50, 100, 200, 400), 8, 10
CALLS = ("ask", "report", "finish")
LAST = 20
"""The cost at so many trials is taken from the calls of the last ones only."""


def costs(trials: int, storage: str) -> dict[str, float]:
    """Processor milliseconds of each of CALLS for the last trials of a study."""
    spec = StudySpec(
        name="growth",
        trials=trials,
        space={
            "fipo.half_life": {"type": "log-uniform", "low": 2, "high": 256},
            "fipo.epsilon_f_high": {"type": "uniform", "low": 0, "high": 0.5},
            "optimizer.learning_rate": {"type": "log-uniform", "low": 1e-5, "high": 8e-4},
        },
        trainer={"steps": RESULTS},
        storage=storage,
    )
    spent: dict[str, list[float]] = {name: [] for name in CALLS}
    with tempfile.TemporaryDirectory() as scratch:
        staging = Staging(spec, Path(scratch) / "study")
        directory = staging.publish()
        staging.discard()
        with driving(spec, directory) as study:
            bridge = Bridge(study, spec, directory)

            def timed(name: str, call: Callable[..., Any], *words: Any) -> Any:
                started = time.thread_time()
                told = call(*words)
                spent[name].append(time.thread_time() - started)
                return told

            running: dict[int, tuple[int, float]] = {}

            def ask() -> None:
                if (assignment := timed("ask", bridge.ask)) is not None:
                    running[assignment.number] = (0, assignment.params["fipo.epsilon_f_high"])

            for _ in range(CONCURRENCY):
                ask()
            while running:
                for number, (step, height) in list(running.items()):
                    running[number] = (step + 1, height)
                    stop = timed("report", bridge.report, number, Report(step + 1, height * (step + 1) / RESULTS))
                    if stop or step + 1 == RESULTS:
                        timed("finish", bridge.finish, number)
                        del running[number]
                        ask()
    last = {"ask": LAST, "report": LAST * RESULTS // 2, "finish": LAST}
    # The asks after the last trial are told that there is none.
    asks = spent["ask"][:trials]
    return {
        name: 1000 * statistics.mean((asks if name == "ask" else found)[-last[name] :]) for name, found in spent.items()
    }


def exponent(counts: Sequence[int], values: Sequence[float]) -> float:
    """b of values = a * counts^b, by least squares on the logarithms."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def rows(storage: str = "sqlite") -> list[Row]:
    """Each cost at the most trials against that at the fewest."""
    found = [costs(trials, storage) for trials in TRIALS]
    made = []
    for name in CALLS:
        values = [each[name] for each in found]
        steps = [after / before for before, after in itertools.pairwise(values)]
        listed = ", ".join(f"{trials} trials {value:.2f}" for trials, value in zip(TRIALS, values, strict=True))
        made.append(
            Row(
                claim=f"processor time per {name}, {TRIALS[-1]} trials in {storage}",
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
    show(rows(parser.parse_args().storage))
    return 0


if __name__ == "__main__":
    sys.exit(main())
