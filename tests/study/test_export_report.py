"""The report needs no network and shows text as text; the tables hold every trial."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from study.export import prepare
from tests.study.exported import PAPER, make_results

EVIL = "</script><script>alert('x')</script><img src=http://evil.example/x>"


class Tags(HTMLParser):
    """Collects the tags and what they would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "href")]


@pytest.fixture
def results(tmp_path):
    made = make_results(tmp_path / "study", [PAPER, PAPER | {"fipo.epsilon_f_low": 0.2}])
    return replace(made, trials=(replace(made.trials[0], control=EVIL), made.trials[1]))


def test_the_report_fetches_nothing_and_runs_no_text(results, tmp_path):
    (one,) = prepare(results, "report", out=tmp_path / "report.html")
    tags = Tags()
    tags.feed(one.text)
    assert tags.fetched == []
    assert "img" not in tags.tags
    plain = make_results(tmp_path / "plain", [PAPER, PAPER])
    harmless = Tags()
    harmless.feed(prepare(plain, "report", out=tmp_path / "plain.html")[0].text)
    assert tags.tags.count("script") == harmless.tags.count("script")
    assert "default-src &#x27;none&#x27;" in one.text


def test_the_report_tells_scores_with_errors_the_config_and_how_to_repeat_it(results, tmp_path):
    (one,) = prepare(results, "report", out=tmp_path / "report.html")
    for words in (
        "Study golden", "aime_2024 (selected on", "aime_2025 (only reported", "(sampling)", "across 30 problems",
        "selection-corrected aime_2024/avg@32", "half_life: 32.0", "fipo train best.yaml", "avg@32",
    ):  # fmt: skip
        assert words in one.text


def test_json_holds_every_trial_with_its_evaluations(results, tmp_path):
    (one,) = prepare(results, "json", out=tmp_path / "trials.json")
    data = json.loads(one.text)
    assert [trial["number"] for trial in data["trials"]] == [0, 1]
    assert data["trials"][1]["evaluations"][-1]["scores"][0]["solved"] == list(
        results.trials[1].evaluations[-1].scores[0].solved
    )
    assert data["selection_corrected"]["method"] == "split halves over problems"
    assert data["selection_corrected"]["value"] <= data["selection_corrected"]["selected"]


def test_csv_has_one_row_per_trial_and_no_formula(results, tmp_path):
    results = replace(results, trials=(replace(results.trials[0], control="=cmd()"), results.trials[1]))
    (one,) = prepare(results, "csv", out=tmp_path / "trials.csv")
    rows = list(csv.DictReader(io.StringIO(one.text)))
    assert [row["params.fipo.epsilon_f_low"] for row in rows] == ["0.0", "0.2"]
    assert rows[0]["control"] == "'=cmd()"
    assert float(rows[1]["aime_2024.accuracy"]) == results.trials[1].evaluations[-1].scores[0].accuracy
    assert float(rows[1]["aime_2025.problem_error"]) > 0
