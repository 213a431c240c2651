"""Two trials at once on two cores against the same two one after the other, each with one thread.

    python -m benchmarks.two_trials

Through the real study (`fipo launch`, embedded base model, nothing pruned), and beside it without one (two
`python -m trainer` processes), which is what this machine gives two of them. What counts is training steps per second,
evaluations and checkpoints included, between the first step of a trial and its last; with two at once, while both are
within that. Imports, Ray's start and the end of the study are outside.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.result import Row, compare, show
from benchmarks.startup import launched, steps

STEPS, RUNS = 12, 3
SEEDS = (0, 1)
LIMIT_SECONDS = 400

Times = dict[int, float]
"""Monotonic time at which each step of a trial was written."""


def watched(files: list[Path], alive: Callable[[], bool]) -> list[Times]:
    """When the steps of each run were written, up to its last, to about 20 ms.

    Raises:
        RuntimeError: what writes them ended early.
        TimeoutError: they took too long.
    """
    times: list[Times] = [{} for _ in files]
    sizes, until = [0] * len(files), time.monotonic() + LIMIT_SECONDS
    while any(STEPS not in each for each in times):
        living = alive()
        for at, file in enumerate(files):
            if file.exists() and file.stat().st_size != sizes[at]:
                sizes[at] = file.stat().st_size
                for step in steps(file):
                    times[at].setdefault(step, time.monotonic())
        if not living and any(STEPS not in each for each in times):
            raise RuntimeError(f"ended early, with {[len(each) for each in times]} steps")
        if time.monotonic() > until:
            raise TimeoutError(f"not done within {LIMIT_SECONDS} s")
        time.sleep(0.02)
    return times


def one_after_the_other(times: list[Times]) -> float:
    """Steps per second of runs that were alone."""
    return sum(STEPS - 1 for _ in times) / sum(each[STEPS] - each[1] for each in times)


def at_once(times: list[Times]) -> float:
    """Steps per second of all runs together while all of them train."""
    first, last = max(each[1] for each in times), min(each[STEPS] for each in times)
    return sum(first < at <= last for each in times for at in each.values()) / (last - first)


def study_rate(concurrency: int) -> float:
    """Training steps per second in a study of two trials."""
    spec = {
        "name": "two-trials",
        "trials": len(SEEDS),
        "concurrency": concurrency,
        "sampler": {"name": "grid"},
        "pruner": {"name": "none"},
        "space": {"seed": {"type": "grid", "values": list(SEEDS)}},
        "trainer": {"steps": STEPS, "threads": 1},
    }
    with tempfile.TemporaryDirectory(prefix="two-", ignore_cleanup_errors=True) as scratch:
        path, study = Path(scratch) / "spec.yaml", Path(scratch) / "study"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        files = [study / "trials" / f"{number:04d}" / "metrics.jsonl" for number in range(len(SEEDS))]
        with launched(study, Path(scratch) / "log", str(path)):
            times = watched(files, lambda: True)
    return one_after_the_other(times) if concurrency == 1 else at_once(times)


def process_rate(concurrency: int) -> float:
    """Training steps per second in processes of their own, without a study."""
    if concurrency == 1:
        return one_after_the_other([times for seed in SEEDS for times in processes((seed,))])
    return at_once(processes(SEEDS))


def processes(seeds: tuple[int, ...]) -> list[Times]:
    """A process for each seed, all at once."""
    with tempfile.TemporaryDirectory(prefix="two-", ignore_cleanup_errors=True) as scratch:
        outs, running = [Path(scratch) / f"run-{seed}" for seed in seeds], []
        for seed, out in zip(seeds, outs, strict=True):
            out.mkdir()
            config = out.with_suffix(".yaml")
            config.write_text(yaml.safe_dump({"steps": STEPS, "threads": 1, "seed": seed}), encoding="utf-8")
            command = [sys.executable, "-m", "trainer", str(config), "--out", str(out)]
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        try:
            return watched(
                [out / "metrics.jsonl" for out in outs], lambda: all(each.poll() in (None, 0) for each in running)
            )
        finally:
            for each in running:
                each.terminate()
                each.wait()


def row(claim: str, rate: Callable[[int], float], target: str) -> Row:
    """Two at once against one after the other, in turns."""
    pairs = [(rate(2), rate(1)) for _ in range(RUNS)]
    return compare(
        claim,
        "one after the other",
        [together for together, _ in pairs],
        [alone for _, alone in pairs],
        unit="training steps/s",
        ratio="ours / peer",
        target=target,
        note=f"{STEPS} steps of the embedded base, one thread each, without start and end; 2 is the limit; {RUNS} runs",
    )


def rows() -> list[Row]:
    """The claim, and the same without a study."""
    from trainer.base_model import ensure_base_model

    ensure_base_model()
    made = []
    for claim, rate, target in (
        ("two trials at once in a study on two cores", study_rate, ">= 1.7"),
        ("the same two as plain processes", process_rate, ""),
    ):
        made.append(row(claim, rate, target))
        print(f"{claim}: {made[-1].ratio:.2f}", file=sys.stderr, flush=True)
    return made


def main() -> int:
    """Print the rows."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a launch is stopped with it
    show(rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
