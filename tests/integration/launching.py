"""Studies as a user launches them: small specs, the command line, and drivers to be signalled while they run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from study.results import TrialResult, read_study

FIPO = [sys.executable, "-P", "-c", "from study.cli import main; main()"]
RATE = "optimizer.learning_rate"
EAGER = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3",
         "RAY_health_check_initial_delay_ms": "0"}  # fmt: skip
"""Ray misses a dead node after two seconds instead of half a minute, before a short study is over."""
SMALL = {
    "steps": 3,
    "rollout": {"prompts_per_step": 4, "group_size": 4},
    "optimizer": {"prompts_per_minibatch": 2},
    "evaluation": {"sets": [{"name": "sums", "path": "embedded:select", "samples": 2, "every": 1}]},
}


def write_spec(path: Path, base: str, *, trainer: dict[str, object] | None = None, **changes: object) -> Path:
    spec = {
        "name": "small",
        "trials": 3,
        "concurrency": 2,
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "space": {RATE: {"type": "choice", "values": [5e-5, 1e-4, 1e30]}},
        "trainer": {"model": {"path": base}} | SMALL | (trainer or {}),
    } | changes
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def fipo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FIPO, *arguments], cwd=cwd, capture_output=True, text=True, timeout=400, check=False)


def notify(folder: Path) -> dict[str, object]:
    """Every event becomes a line of `folder`/events."""
    code = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    return {"command": [sys.executable, "-S", "-c", code, str(folder / "events")]}


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events").read_text().splitlines()]


def controls(*rates: float) -> list[dict[str, object]]:
    return [{"label": f"c{number}", "values": {RATE: rate}} for number, rate in enumerate(rates)]


def wait_for(condition: Callable[[list[TrialResult]], bool], directory: Path, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 500  # generous: only a hang reaches it
    while time.monotonic() < deadline:
        if directory.exists() and condition(list(read_study(directory).trials)):
            return
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.5)
    raise AssertionError(f"not reached: {read_study(directory).trials}")


@contextlib.contextmanager
def driven(folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """The driver of a study, killed at the end if it still runs."""
    driver = subprocess.Popen(
        [*FIPO, *command],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | EAGER,
        # A background job of a shell script ignores SIGINT, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield driver
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)


def two_evaluated_twice(trials: list[TrialResult]) -> bool:
    return sum(len(each.evaluations) > 1 for each in trials if each.state == "RUNNING") == 2
