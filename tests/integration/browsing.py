"""A served dashboard and a watched page, for the tests that open it in Chromium."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from dashboards import app

PATIENCE = 120_000
"""Milliseconds that a page may take on a busy machine; how fast pages are is for benchmarks/dashboard.py."""
expect.set_options(timeout=PATIENCE)
CHROMIUM = os.environ.get("CHROMIUM", shutil.which("chromium") or "/usr/bin/chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
PAGES = {title: path for _, title, path, _ in app.PAGES}
WITHOUT_CHART = {"Completions": "Response 1, correct", "Export": "The same on the command line"}


class Served:
    """A dashboard process and the address it printed."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "dashboards.serve", str(directory), "--port", str(self.port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the dashboard printed {line!r} instead of its address"
        self.address = found.group()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


def watched(browser: Browser, **options: object) -> tuple[Page, list[str]]:
    """A page, and the list that collects its console errors, failures and requests to other hosts."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, **options)  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(_said(message)) if message.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url) if not _own(request.url) else None)
    return page, trouble


def _own(url: str) -> bool:
    return re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost|\[::1\])[:/]|data:|blob:", url) is not None


def _said(message: ConsoleMessage) -> str:
    return f"{message.text} {message.location['url']}"


def expect_sound(page: Page, trouble: list[str]) -> None:
    """No exception on the page, and nothing but Streamlit's own search for its base path in the console."""
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_text("could not be drawn")).to_have_count(0)
    # On a deep link Streamlit looks for itself below the page before it looks at the root: two 404s by design.
    probes = re.compile(r".* 404 .*http://127\.0\.0\.1:\d+/[a-z-]+/_stcore/(health|host-config)")
    assert [each for each in trouble if not probes.fullmatch(each)] == []


def points(page: Page) -> int:
    """Points that Plotly drew on the page's first chart, the legend's samples not counted."""
    return page.locator(".js-plotly-plot").first.locator(".scatterlayer .points path").count()


def walk(page: Page, served: Served, trouble: list[str], *, name: str = "synthetic") -> None:
    """Open every page by its link, as a person does, and find it sound. The study is called `name`."""
    overview = name if served.directory.name == name else f"{name} ({served.directory.name})"
    page.goto(served.address)
    for title in PAGES:
        page.get_by_role("link", name=title, exact=True).first.click()
        heading = overview if title == "Overview" else title
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        if title in WITHOUT_CHART:
            expect(page.get_by_text(WITHOUT_CHART[title]).first).to_be_visible()
        else:
            expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
        expect(page.get_by_role("progressbar").first).to_be_visible()
        expect_sound(page, trouble)
        expect_narrow(page)


def expect_narrow(page: Page) -> None:
    """In a window of 420 pixels the page scrolls downwards only."""
    usual = page.viewport_size
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollWidth <= 420")
    if usual is not None:
        page.set_viewport_size(usual)
