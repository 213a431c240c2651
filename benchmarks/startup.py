"""How soon the command line answers, and how soon a launched study trains.

    python -m benchmarks.startup

`fipo --help` against its limit and against the command lines of Ray and Optuna, which are installed with it. A launch
of the default study, from the command to the first training step of a trial, in the stages that its files show, against
its limit and against the least that Tune can do (`benchmarks.bare_launch`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks.result import Row, compare, show

HELP_SECONDS, LAUNCH_SECONDS = 0.4, 8.0
"""The limits."""
HELP_RUNS, LAUNCH_RUNS = 11, 3
HEAVY = ("torch", "transformers", "ray", "optuna", "pandas", "streamlit")
"""What `fipo --help` must not import."""


def help_seconds(program: str) -> float:
    """Wall time of `program --help`, one of the scripts beside this Python."""
    started = time.monotonic()
    subprocess.run([str(script(program)), "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def script(program: str) -> Path:
    """Where `program` was installed. Raises FileNotFoundError when it was not."""
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        raise FileNotFoundError(f"{path}: not installed; pip install -e .")
    return path


def heavy_imports() -> list[str]:
    """Those of HEAVY that are loaded once `fipo --help` has been printed."""
    code = (
        "import sys, contextlib\n"
        "sys.argv = ['fipo', '--help']\n"
        "from study.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [name for name in HEAVY if name in told.stderr.split()]


STAGES = ("Ray is up and the study published", "first config written", "base model evaluated", "first training step")


def launch_seconds() -> list[tuple[float, float]]:
    """Wall seconds from the command, and CPU seconds of all its processes, at the end of each of STAGES, of whichever
    trial comes first."""
    with tempfile.TemporaryDirectory(prefix="up-", ignore_cleanup_errors=True) as scratch:
        study, started = Path(scratch) / "study", time.monotonic()
        with launched(study, Path(scratch) / "log") as process:
            found = []
            for stage in range(len(STAGES)):
                while not reached(study, stage):
                    if time.monotonic() - started > 120:
                        raise TimeoutError(f"{STAGES[stage]}: not within 120 s")
                    time.sleep(0.02)
                found.append((time.monotonic() - started, cpu_seconds(process.pid)))
            return found


def bare_seconds() -> float:
    """Wall seconds from the command to the first training step of the least that Ray Tune can do."""
    with tempfile.TemporaryDirectory(prefix="bare-", ignore_cleanup_errors=True) as scratch:
        stepped, started = Path(scratch) / "stepped", time.monotonic()
        with (Path(scratch) / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.bare_launch", str(stepped)], stdout=log, stderr=log
            )
            while not stepped.exists():
                if process.poll() is not None or time.monotonic() - started > 120:
                    raise RuntimeError("benchmarks.bare_launch: no training step")
                time.sleep(0.02)
            took = time.monotonic() - started
            process.wait(60)
        return took


def cpu_seconds(pid: int) -> float:
    """Of a process and all below it that live or that it has waited for."""
    total, process = 0.0, psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:4])  # its own and its children's, user and system
    return total


def reached(study: Path, stage: int) -> bool:
    """Whether a stage of a launch is over."""
    if stage == 0:
        return study.exists()
    if stage == 1:
        return any(study.glob("trials/*/config.yaml"))
    return any(stage - 2 in steps(file) for file in study.glob("trials/*/metrics.jsonl"))


def steps(file: Path) -> list[int]:
    """The steps whose metrics have been written, a half-written line left out."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


@contextlib.contextmanager
def launched(study: Path, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`fipo launch` of the default study, stopped like by Ctrl-C at the end."""
    command = [str(script("fipo")), "launch", "--out", str(study), *options]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def rows() -> list[Row]:
    """The claims."""
    from trainer.base_model import ensure_base_model

    if loaded := heavy_imports():
        raise RuntimeError(f"fipo --help imports {', '.join(loaded)}")
    runs = {"fipo": [], "ray": [], "optuna": []}
    for _ in range(HELP_RUNS + 1):
        for program, seconds in runs.items():
            seconds.append(help_seconds(program))
    ours, ray, optuna = (seconds[1:] for seconds in runs.values())  # the first fills the file cache
    note = f"{', '.join(HEAVY)}: none is imported"
    made = [
        against_limit("fipo --help", ours, HELP_SECONDS, note),
        compare("fipo --help", "ray --help", ours, ray, unit="s", ratio="ours / peer"),
        compare("fipo --help", "optuna --help", ours, optuna, unit="s", ratio="ours / peer"),
    ]
    ensure_base_model()
    runs_of_stages, bare = [], []
    for _ in range(LAUNCH_RUNS):
        runs_of_stages.append(launch_seconds())
        bare.append(bare_seconds())
    last = [wall for wall, _ in (each[-1] for each in runs_of_stages)]
    stages = [
        f"{name} {statistics.median(wall for wall, _ in each):.1f} s"
        f" ({statistics.median(cpu for _, cpu in each):.1f} CPU s)"
        for name, each in zip(STAGES, zip(*runs_of_stages, strict=True), strict=True)
    ]
    claim = "fipo launch, the default study, until the first training step is done"
    note = f"{os.cpu_count()} cores, two trials at once; since the command: {', '.join(stages)}"
    least = "Tune + OptunaSearch with torch and transformers, one AdamW step"
    return [
        *made,
        against_limit(claim, last, LAUNCH_SECONDS, note),
        compare(claim, least, last, bare, unit="s", ratio="ours / peer"),
    ]


def against_limit(claim: str, seconds: Sequence[float], limit: float, note: str) -> Row:
    """A row of runs that may take `limit` seconds."""
    limits = [limit] * len(seconds)
    return compare(claim, "limit", seconds, limits, unit="s", ratio="ours / peer", target="<= 1", note=note)


def main() -> int:
    """Print the rows."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a launch is stopped with it
    show(rows())
    return 0


if __name__ == "__main__":
    sys.exit(main())
