"""The dashboard as a person meets it: a served process, a real Chromium, finished, running and broken studies."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import optuna
import psutil
import pytest
import yaml
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.dashboards.synthetic import SyntheticStudy, write_study
from trainer.config import TrainerConfig

pytestmark = pytest.mark.browser

PATIENCE = 120_000
"""Milliseconds that a page may take on a busy machine; how fast pages are is for benchmarks/dashboard.py."""
expect.set_options(timeout=PATIENCE)
CHROMIUM = os.environ.get("CHROMIUM", shutil.which("chromium") or "/usr/bin/chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
PAGES = {"Overview": "", "Length-accuracy": "length-accuracy", "Training dynamics": "training",
         "Hyperparameters": "hyperparameters", "Pruning": "pruning", "Compare": "compare",
         "Completions": "completions", "Export": "export"}  # fmt: skip
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> object:
    def start(directory: Path, *options: str) -> Served:
        served = Served(directory, *options)
        request.addfinalizer(served.stop)
        return served

    return start


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(write_study(tmp_path_factory.mktemp("studies") / "finished"))
    yield served
    served.stop()


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
    """Open every page by its link, as a person does, and find it sound."""
    page.goto(served.address)
    for title in PAGES:
        page.get_by_role("link", name=title, exact=True).first.click()
        heading = name if title == "Overview" else title
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        if title in WITHOUT_CHART:
            expect(page.get_by_text(WITHOUT_CHART[title]).first).to_be_visible()
        else:
            expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
        expect(page.get_by_role("progressbar").first).to_be_visible()
        expect_sound(page, trouble)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_of_a_finished_study_draws_without_an_error(finished: Served, browser: Browser, scheme: str) -> None:
    page, trouble = watched(browser, color_scheme=scheme)
    walk(page, finished, trouble)
    page.close()


def test_every_page_of_a_running_study_draws_without_an_error(tmp_path: Path, serve, browser: Browser) -> None:
    study = SyntheticStudy(tmp_path / "running")
    for _ in range(2):
        study.run(study.begin())
    study.run(study.begin(), until=22)
    study.begin()
    page, trouble = watched(browser)
    served = serve(study.directory)
    walk(page, served, trouble)
    expect(page.get_by_text("2 running")).to_be_visible()
    page.close()


def test_every_page_of_a_damaged_study_draws_what_is_left(
    finished: Served, tmp_path: Path, serve, browser: Browser
) -> None:
    directory = shutil.copytree(finished.directory, tmp_path / "damaged")
    for name in ("evaluations.jsonl", "metrics.jsonl"):
        lines = directory / "trials" / "0002" / name
        text = re.sub(r'"(accuracy|entropy)": [^,]+', r'"\1": NaN', lines.read_text(encoding="utf-8"))
        lines.write_text(text[:-30], encoding="utf-8")
        (directory / "trials" / "0003" / name).unlink()
    page, trouble = watched(browser)
    walk(page, serve(directory), trouble)
    page.close()


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    served = Served(write_study(tmp_path / "short", trials=1))
    served.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", served.port)) != 0


def test_settings_live_in_the_address_and_open_again(finished: Served, browser: Browser) -> None:
    page, trouble = watched(browser)
    page.goto(f"{finished.address}length-accuracy")
    page.get_by_role("combobox", name="Colour").click()
    page.get_by_role("option", name="learning rate").click()
    page.wait_for_url("**/length-accuracy?colour=learning+rate")
    expect(page.get_by_text("learning rate", exact=True).first).to_be_visible()
    other, _ = watched(browser)
    other.goto(page.url)
    expect(other.get_by_role("combobox", name="Colour")).to_have_value("learning rate", timeout=PATIENCE)
    expect_sound(page, trouble)
    page.close()
    other.close()


def test_new_evaluations_appear_and_settings_stay(tmp_path: Path, serve, browser: Browser) -> None:
    study = SyntheticStudy(tmp_path / "live")
    trial = study.begin()
    study.run(trial, until=10)
    page, trouble = watched(browser)
    page.goto(f"{serve(study.directory).address}length-accuracy?colour=trial+state")
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("combobox", name="Length").click()
    page.get_by_role("option", name="median").click()
    page.wait_for_url("**length=median**")
    expect(page.get_by_text("median response length (tokens)")).to_be_visible()
    before = points(page)
    page.set_viewport_size({"width": 1400, "height": 600})
    scrolled = page.locator("[data-testid=stMain]")
    scrolled.evaluate("element => element.scrollTo(0, 150)")
    study.run(trial, after=10, until=20)
    page.wait_for_function(
        "n => document.querySelectorAll('.js-plotly-plot .scatterlayer .points path').length >= n",
        arg=before + 2,
        timeout=PATIENCE,
    )
    expect(page.get_by_role("combobox", name="Length")).to_have_value("median")
    expect(page.get_by_role("combobox", name="Colour")).to_have_value("trial state")
    assert scrolled.evaluate("element => element.scrollTop") == 150
    expect_sound(page, trouble)
    page.close()


def test_several_studies_are_chosen_in_the_sidebar_and_named_in_the_address(
    finished: Served, tmp_path: Path, serve, browser: Browser
) -> None:
    shutil.copytree(finished.directory, tmp_path / "studies" / "first")
    write_study(tmp_path / "studies" / "second", trials=2, name="second")
    other = optuna.create_study(study_name="other", storage=f"sqlite:///{tmp_path / 'other.db'}", direction="minimize")
    other.optimize(lambda trial: trial.suggest_float("<a href='http://example.org'>x</a>", 0, 1), n_trials=3)
    served = serve(tmp_path / "studies", f"sqlite:///{tmp_path / 'other.db'}")
    page, trouble = watched(browser)
    page.goto(f"{served.address}length-accuracy?study=first&states=pruned")
    expect(page.get_by_text(re.compile(r"\d of 12 trials\."))).to_be_visible()
    page.get_by_role("combobox", name="Study").click()
    page.get_by_role("option", name="second").click()
    expect(page.get_by_text("2 of 2 trials finished")).to_be_visible()
    page.wait_for_url("**/length-accuracy?study=second")  # without the filter, which was the other study's
    page.get_by_role("link", name="Compare").click()
    page.wait_for_url("**/compare?study=second")
    page.get_by_role("combobox", name="Study").click()
    page.get_by_role("option", name="other").click()
    expect(page.get_by_role("heading", name="Value by trial")).to_be_visible()
    expect(page.locator(".js-plotly-plot .main-svg").nth(2)).to_be_visible()
    page.wait_for_url("**study=other")
    assert page.locator("a[href*='example.org']").count() == 0
    expect_sound(page, trouble)
    page.close()


def test_a_study_that_the_command_did_not_name_cannot_be_opened(
    finished: Served, tmp_path: Path, serve, browser: Browser
) -> None:
    shutil.copytree(finished.directory, tmp_path / "mine" / "one")
    shutil.copytree(finished.directory, tmp_path / "mine" / "two")
    write_study(tmp_path / "secret", trials=1, name="secret")
    served = serve(tmp_path / "mine")
    page, trouble = watched(browser)
    for asked in ("../secret", str(tmp_path / "secret"), f"sqlite:///{tmp_path / 'secret' / 'optuna.db'}"):
        page.goto(f"{served.address}?study={urllib.parse.quote(asked, safe='')}")
        expect(page.get_by_role("heading", name="synthetic", exact=True)).to_be_visible()
        expect(page.get_by_text("secret")).to_have_count(0)
    expect_sound(page, trouble)
    page.close()


@pytest.mark.parametrize(
    "path", ["/study.yaml", "/trials/0000/config.yaml", "/static/..%2f..%2fstudy.yaml", "/../study.yaml",
             "/app/static/..%2fstudy.yaml", "/media/..%2fstudy.yaml", "/component/../study.yaml"],
)  # fmt: skip
def test_no_file_of_the_machine_can_be_fetched(finished: Served, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", finished.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse().read().decode("utf-8", "replace")
    connection.close()
    assert "name: synthetic" not in answer and "group_size" not in answer


def test_by_default_only_this_machine_can_connect(finished: Served) -> None:
    process = psutil.Process(finished.process.pid)
    found = [each for own in [process, *process.children(recursive=True)] for each in own.net_connections("inet")
             if each.status == psutil.CONN_LISTEN]  # fmt: skip
    assert {each.laddr.ip for each in found} == {"127.0.0.1"}


def test_an_empty_directory_fills_by_itself_when_a_study_begins(tmp_path: Path, serve, browser: Browser) -> None:
    study = SyntheticStudy(tmp_path / "young")
    page, trouble = watched(browser)
    page.goto(serve(study.directory).address)
    expect(page.get_by_text("its first trial has not")).to_be_visible(timeout=PATIENCE)
    study.run(study.begin(), until=5)
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=PATIENCE)
    expect_sound(page, trouble)
    page.close()


def test_a_broken_study_shows_a_sentence_on_every_page(tmp_path: Path, serve, browser: Browser) -> None:
    directory = write_study(tmp_path / "broken", trials=2)
    served = serve(directory)
    (directory / "study.yaml").write_text("name: [", encoding="utf-8")
    page, trouble = watched(browser)
    for path in PAGES.values():
        page.goto(served.address + path)
        expect(page.get_by_text("No study to show yet")).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text("is not valid YAML")).to_be_visible()
    expect_sound(page, trouble)
    page.close()


def test_markup_in_a_name_and_in_what_the_model_wrote_runs_nothing(tmp_path: Path, serve, browser: Browser) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\"><a href='http://example.org'>x</a> [y](http://example.org)"
    study = SyntheticStudy(tmp_path / "hostile", control=hostile, text=hostile + "$\\alpha$")
    study.run(study.begin())
    study.fail(study.begin(), hostile)
    page, trouble = watched(browser)
    page.goto(serve(study.directory).address)
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=PATIENCE)
    assert page.locator("img[src='x'], a[href*='example.org']").count() == 0
    page.get_by_role("link", name="Completions", exact=True).first.click()
    expect(page.get_by_text("Response 2, wrong")).to_be_visible(timeout=PATIENCE)
    letters = 2 * len(hostile + "$\\alpha$") + 1  # the wrong one ends in "!"
    expect(page.locator("span[title^='f = ']")).to_have_count(letters)
    assert page.locator("img[src='x'], a[href*='example.org']").count() == 0
    assert page.title() != "owned"
    expect_sound(page, trouble)
    page.close()


def test_beyond_loopback_only_the_token_opens_the_page(
    finished: Served, tmp_path: Path, serve, browser: Browser
) -> None:
    served = serve(write_study(tmp_path / "shared", trials=2), "--host", "0.0.0.0")
    token = served.address.split("?token=")[1]
    refused, _ = watched(browser)
    answer = refused.goto(f"http://127.0.0.1:{served.port}/")
    assert answer is not None and answer.status == 401
    refused.close()
    page, trouble = watched(browser)
    page.goto(f"http://127.0.0.1:{served.port}/?token={token}")
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("link", name="Length-accuracy").click()
    expect(page.get_by_role("heading", name="Length-accuracy")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Length-accuracy")).to_be_visible(timeout=PATIENCE)
    expect_sound(page, trouble)
    page.close()


def test_a_clicked_point_opens_its_trial_and_carries_it_to_other_pages(finished: Served, browser: Browser) -> None:
    page, trouble = watched(browser)
    page.goto(f"{finished.address}length-accuracy")
    chart = page.locator(".js-plotly-plot").first
    expect(chart.locator(".main-svg").first).to_be_visible(timeout=PATIENCE)
    chart.locator(".scatterlayer .points path").first.click(force=True)
    card = page.get_by_role("link", name="Completions").nth(1)
    expect(card).to_be_visible(timeout=PATIENCE)
    card.click()
    expect(page.get_by_role("heading", name="Completions", exact=True)).to_be_visible(timeout=PATIENCE)
    assert "trial=" in page.url
    expect_sound(page, trouble)
    page.close()


def test_an_export_downloads_what_the_page_shows(finished: Served, browser: Browser, tmp_path: Path) -> None:
    page, trouble = watched(browser)
    page.goto(f"{finished.address}export")
    button = page.get_by_role("button", name="Download")
    expect(button).to_be_visible(timeout=PATIENCE)
    with page.expect_download() as download:
        button.click()
    download.value.save_as(tmp_path / "best.yaml")
    config = TrainerConfig.model_validate(yaml.safe_load((tmp_path / "best.yaml").read_text(encoding="utf-8")))
    assert config.steps == 40
    expect_sound(page, trouble)
    page.close()


def test_a_narrow_window_scrolls_only_downwards_on_every_page(finished: Served, browser: Browser) -> None:
    page, trouble = watched(browser)
    page.set_viewport_size({"width": 420, "height": 900})
    overlays = "length-accuracy?over=stage+fits&over=Pareto+front&over=paper:+FIPO+32B"
    for path in (*PAGES.values(), overlays):
        page.goto(finished.address + path)
        expect(page.get_by_role("heading").first).to_be_visible(timeout=PATIENCE)
        shown = WITHOUT_CHART.get(next((title for title, own in PAGES.items() if own == path), ""))
        first = page.get_by_text(shown) if shown else page.locator(".js-plotly-plot .main-svg")
        expect(first.first).to_be_visible()
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 420, path
    expect_sound(page, trouble)
    page.close()
