"""The dashboard as a person meets it: a served process, a real Chromium, finished, running and broken studies."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import optuna
import pytest
import yaml
from playwright.sync_api import Browser, Locator, expect

from study.directory import trial_directory
from study.results import read_study
from tests.dashboards.synthetic import SyntheticStudy, completions, write_study
from tests.integration.browsing import (
    PAGES,
    PATIENCE,
    Served,
    expect_narrow,
    expect_sound,
    points,
    walk,
    watched,
)
from trainer.config import TrainerConfig

pytestmark = pytest.mark.browser


def test_every_page_of_a_finished_study_draws_without_an_error(finished: Served, browser: Browser) -> None:
    page, trouble = watched(browser, color_scheme="light")
    walk(page, finished, trouble)
    page.close()


def test_every_page_of_a_running_study_draws_in_the_dark_without_an_error(
    tmp_path: Path, serve, browser: Browser
) -> None:
    study = SyntheticStudy(tmp_path / "running")
    for _ in range(2):
        study.run(study.begin())
    study.run(study.begin(), until=22)
    study.begin()
    page, trouble = watched(browser, color_scheme="dark")
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


def test_settings_are_made_with_the_keyboard_live_in_the_address_and_open_again(
    finished: Served, browser: Browser
) -> None:
    page, trouble = watched(browser)
    page.goto(f"{finished.address}length-accuracy")
    colour = page.get_by_role("combobox", name="Colour")
    expect(colour).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if colour.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.type("learning")
    expect(page.get_by_role("option", name="learning rate")).to_be_visible()
    page.keyboard.press("Enter")
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
    page.goto(f"{served.address}length-accuracy?study=first&states=pruned&colour=trial+state")
    expect(page.get_by_text(re.compile(r"\d of 12 trials\."))).to_be_visible()
    page.get_by_role("combobox", name="Study").click()
    page.get_by_role("option", name="second").click()
    expect(page.get_by_text("2 of 2 trials finished")).to_be_visible()
    page.wait_for_url("**/length-accuracy?study=second")  # filter and colour were the other study's
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


def test_a_selectbox_says_what_is_shown_when_a_choice_before_it_changes(
    finished: Served, tmp_path: Path, serve, browser: Browser
) -> None:
    """Streamlit's own test runner sees what the server takes, and not what the browser goes on showing."""
    for name in ("first", "second"):
        directory = write_study(tmp_path / "studies" / name, trials=12, name=name)
    results = read_study(directory)
    pruned = next(trial for trial in results.trials if trial.state == "PRUNED" and (trial.pruned_at or 0) > 5)
    folder = tmp_path / "studies" / "first" / trial_directory(pruned.number) / "completions"
    completions(5, text="0", problem="1+1=").write_parquet(folder / "step-000005.parquet")
    page, trouble = watched(browser)

    def chosen(name: str) -> Locator:
        return page.get_by_role("combobox", name=name)

    def choose(name: str, option: str) -> None:
        chosen(name).click()
        page.get_by_role("option", name=option, exact=True).click()

    page.goto(f"{serve(tmp_path / 'studies').address}completions?study=first")
    expect(chosen("Training step")).to_have_value("40", timeout=PATIENCE)
    choose("Trial", f"#{pruned.number}")
    expect(chosen("Training step")).to_have_value(f"{pruned.pruned_at}", timeout=PATIENCE)
    expect(chosen("Problem")).to_have_value("1. 2+4=")
    choose("Training step", "5")
    expect(chosen("Problem")).to_have_value("1. 1+1=", timeout=PATIENCE)
    assert results.best is not None
    choose("Study", "second")
    expect(chosen("Trial")).to_have_value(f"#{results.best.number}", timeout=PATIENCE)
    page.get_by_role("link", name="Export").first.click()
    choose("Trial", f"#{pruned.number}")
    expect(page.get_by_text(f"second-trial-{pruned.number:04d}.yaml").first).to_be_visible(timeout=PATIENCE)
    choose("Study", "first")
    expect(page.get_by_text(f"first-trial-{results.best.number:04d}.yaml").first).to_be_visible(timeout=PATIENCE)
    expect(chosen("Trial")).to_have_value(f"#{results.best.number}, best")
    expect_sound(page, trouble)
    page.close()


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


def test_overlays_and_a_narrow_window_go_together(finished: Served, browser: Browser) -> None:
    page, trouble = watched(browser)
    page.goto(f"{finished.address}length-accuracy?over=stage+fits&over=Pareto+front&over=paper:+FIPO+32B")
    expect(page.get_by_text("paper: 32B FIPO").first).to_be_visible()
    expect_narrow(page)
    expect_sound(page, trouble)
    page.close()
