"""How long the dashboard takes to show 12, 100 and 1,000 trials, in a real Chromium; beside optuna-dashboard.

    python -m benchmarks.dashboard --trials 12 100 1000 --optuna-dashboard VENV/bin/optuna-dashboard

Times are from the navigation (or the click) until the new chart stands, in seconds; beside them the CPU seconds that
the server and Chromium took meanwhile, which say as much on a busy machine. Memory is the peak of the server's resident
size with its children, in MB. `started` is from the command to the first answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.dashboard_study import STEPS, write_large_study
from benchmarks.result import Row, compare
from benchmarks.served import Server, free_port
from study.directory import trial_directory

CHROMIUM = os.environ.get("CHROMIUM", shutil.which("chromium") or "/usr/bin/chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
CHART = ".js-plotly-plot .main-svg"
POINTS = ".js-plotly-plot .scatterlayer .points path"
PATIENCE = 60_000
"""ms"""
MEMORY, PAINT = "memory (MB)", "overview, first paint"
LIMITS = {
    PAINT: 3.0, "length-accuracy, cold": 4.0, "length-accuracy, warm": 1.0, "interaction": 1.0, "new evaluation": 5.0,
    MEMORY: 1500.0,
}  # fmt: skip
"""What is allowed at 1,000 trials, seconds or MB."""


@dataclass(frozen=True)
class Taken:
    """What one step took."""

    value: float
    """Wall seconds, or MB."""
    cpu: float | None = None
    """CPU seconds of the server and the browser together."""


def timed(action: Callable[[], float | None]) -> Taken:
    """Seconds that `action` takes, or says, and the CPU seconds of all processes that this one has started."""
    cpu, began = _cpu(), time.perf_counter()
    told = action()
    return Taken(told or time.perf_counter() - began, _cpu() - cpu)


def _cpu() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def measure(directory: Path, browser: Browser) -> dict[str, Taken]:
    """Seconds (and MB) for one study, each cold number on a server of its own."""
    found = {}
    with_overview = _serve(directory)
    page = _page(browser)
    found["started"] = Taken(with_overview.started)
    found[PAINT] = timed(lambda: _open(page, f"http://127.0.0.1:{with_overview.port}/"))
    with_overview.stop()
    page.close()
    server, page = _serve(directory), _page(browser)
    address = f"http://127.0.0.1:{server.port}/"
    found["length-accuracy, cold"] = timed(lambda: _open(page, address + "length-accuracy"))
    for title, heading in (("Pruning", "Pruning"), ("Hyperparameters", "Hyperparameters")):
        _rest(page)
        found[f"{title.lower()}, warm"] = timed(lambda: _turn(page, title, heading))  # noqa: B023
    _rest(page)
    found["length-accuracy, warm"] = timed(lambda: _turn(page, "Length-accuracy", "Length-accuracy"))
    _rest(page)
    found["interaction"] = timed(lambda: _choose_median(page))
    number, evaluations = _unfinished(directory)
    _open(page, address + f"length-accuracy?trials=%23{number}")
    _rest(page)
    found["new evaluation"] = timed(lambda: _appears(page, evaluations))
    found[MEMORY] = Taken(server.peak)
    server.stop()
    page.close()
    return found


def measure_peer(command: str, directory: Path, browser: Browser) -> dict[str, Taken]:
    """optuna-dashboard on the same storage: its page of the study, with history, importance and timeline."""
    port = free_port()
    server = Server([command, f"sqlite:///{directory / 'optuna.db'}", "--port", str(port)], port)
    page = _page(browser)
    found = {"started": Taken(server.started)}
    found[PAINT] = timed(lambda: _open(page, f"http://127.0.0.1:{port}/dashboard/studies/1"))
    page.wait_for_timeout(10_000)  # its other charts come later and take most of its memory
    found[MEMORY] = Taken(server.peak)
    server.stop()
    page.close()
    return found


def _serve(directory: Path) -> Server:
    port = free_port()
    return Server([sys.executable, "-m", "dashboards.serve", str(directory), "--port", str(port)], port)


def _page(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)
    return page


def _open(page: Page, address: str) -> float:
    """Seconds from the navigation to the first frame with points in a chart, by the page's own clock."""
    page.goto(address, wait_until="commit")
    points = page.wait_for_function(f"document.querySelector('{POINTS}') && performance.now()")
    return float(points.json_value()) / 1000


def _turn(page: Page, title: str, heading: str) -> None:
    page.get_by_role("link", name=title).click()
    page.get_by_role("heading", name=heading, exact=True).wait_for(state="visible")
    page.locator(CHART).first.wait_for(state="visible")


def _rest(page: Page) -> None:
    """Until the page has stopped computing, so that what comes next is measured alone."""
    page.get_by_test_id("stStatusWidget").wait_for(state="detached")
    page.wait_for_timeout(2000)


def _choose_median(page: Page) -> None:
    page.get_by_role("combobox", name="Length").click()
    page.get_by_role("option", name="median").click()
    page.get_by_text("median response length (tokens)").wait_for(state="visible")


def _unfinished(directory: Path) -> tuple[int, Path]:
    """The number and the evaluations of a trial that has not come to its last step."""
    for number in range(1, 1000):
        path = directory / trial_directory(number) / "evaluations.jsonl"
        if json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["step"] < STEPS:
            return number, path
    raise AssertionError("half of the trials are pruned before their last step")


def _appears(page: Page, evaluations: Path) -> None:
    """Write one more evaluation, as a running trial does, and wait for its point; then take it back."""
    count = page.locator(POINTS).count()
    size = evaluations.stat().st_size
    last = json.loads(evaluations.read_text(encoding="utf-8").splitlines()[-1])
    try:
        with evaluations.open("a", encoding="utf-8") as file:
            file.write(json.dumps(last | {"step": last["step"] + 1}) + "\n")
        page.wait_for_function(f"document.querySelectorAll('{POINTS}').length > {count}")
    finally:
        os.truncate(evaluations, size)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def rows(runs: int = 3) -> list[Row]:
    """1,000 trials against the limits, and against optuna-dashboard where that is on the path."""
    peer = shutil.which("optuna-dashboard")
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        directory = write_large_study(Path(scratch) / "large", trials=1000)
        ours = [measure(directory, browser) for _ in range(runs)]
        theirs = [measure_peer(peer, directory, browser) for _ in range(runs)] if peer else []
    found = {name: [each[name].value for each in ours] for name in LIMITS}
    others = {name: [each[name].value for each in theirs] for name in (PAINT, MEMORY) if theirs}
    claims = {name: f"dashboard with 1,000 trials: {name}" for name in LIMITS}
    unit = {MEMORY: "MB"}
    against_limits = [
        compare(claims[name], "limit", found[name], [limit] * runs, unit=unit.get(name, "s"), ratio="ours / peer",
                target="<= 1")
        for name, limit in LIMITS.items()
    ]  # fmt: skip
    against_peer = [
        compare(claims[name], "optuna-dashboard, which reads no evaluations", found[name], values,
                unit=unit.get(name, "s"), ratio="ours / peer")
        for name, values in others.items()
    ]  # fmt: skip
    return against_limits + against_peer


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[12, 100, 1000], help="sizes of the studies")
    parser.add_argument("--keep", type=Path, help="directory for the studies (600 MB at 1,000 trials), reused")
    parser.add_argument("--optuna-dashboard", help="command of the peer, from an environment of its own")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        for trials in arguments.trials:
            directory = (arguments.keep or Path(scratch)).resolve() / f"large-{trials}"
            if not directory.exists():
                print(f"making {directory.name}", file=sys.stderr)
                write_large_study(directory, trials=trials)
            _report(f"{trials} trials", measure(directory, browser))
            if arguments.optuna_dashboard:
                peer = measure_peer(arguments.optuna_dashboard, directory, browser)
                _report(f"{trials} trials, optuna-dashboard", peer)


def _report(title: str, found: dict[str, Taken]) -> None:
    print(f"{title} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    for name, taken in found.items():
        cpu = f"   CPU {taken.cpu:5.2f}" if taken.cpu is not None else ""
        print(f"  {name:28}{taken.value:10.2f}{cpu}", flush=True)


if __name__ == "__main__":
    main()
