"""What a dashboard keeps to itself, and what hostile names and texts do in a real Chromium: nothing."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import urllib.parse
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, expect

from tests.dashboards.synthetic import SyntheticStudy, write_study
from tests.integration.browsing import PATIENCE, Served, expect_sound, watched

pytestmark = pytest.mark.browser


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
        expect(page.get_by_role("heading", name=re.compile(r"^synthetic \((one|two)\)$"))).to_be_visible()
        expect(page.get_by_text("secret")).to_have_count(1)
        told = page.get_by_role("alert").get_by_text("secret")  # as the address has it
        expect(told).to_have_text(re.compile("which is not here"))
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


def test_a_token_that_was_given_is_demanded_on_loopback_too(
    tmp_path: Path, serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIPO_DASHBOARD_TOKEN", "abcdefghijklmnopqrstuvwxyz")
    served = serve(write_study(tmp_path / "shared", trials=1))
    assert served.address == f"http://127.0.0.1:{served.port}/?token=abcdefghijklmnopqrstuvwxyz"
    for query, status in (("", 401), ("?token=abcdefghijklmnopqrstuvwxyz", 200)):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        connection.request("GET", f"/{query}")
        assert connection.getresponse().status == status
        connection.close()


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
    assert served.address.startswith(f"http://{socket.gethostname()}:")
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
