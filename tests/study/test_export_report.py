"""The report needs no network and shows text as text; the tables hold every trial."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from dataclasses import replace
from datetime import datetime
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import sync_playwright

from study.export import prepare, write
from study.results import StudyResults
from study.seeds import seeds_against_settings
from study.spec import Notify, Replicas, StudySpec
from study.tables import as_json
from tests.study.exported import PAPER, make_results, papers, score
from trainer.config import TrainerConfig

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
    plain = make_results(tmp_path / "plain", papers(2))
    harmless = Tags()
    harmless.feed(prepare(plain, "report", out=tmp_path / "plain.html")[0].text)
    assert tags.tags.count("script") == harmless.tags.count("script")
    assert "default-src &#x27;none&#x27;" in one.text


def test_the_report_tells_scores_with_errors_the_config_and_how_to_repeat_it(results, tmp_path):
    (one,) = prepare(results, "report", out=tmp_path / "report.html")
    for words in (
        "Study golden", "aime_2024 (selected on", "aime_2025 (only reported", "± sampling", "across 30 problems",
        "Selection-corrected aime_2024/avg@32", "half_life: 32.0", "fipo train best.yaml", "avg@32",
        "Best of 2 COMPLETE", "exported with",
    ):  # fmt: skip
        assert words in one.text


def test_the_study_and_the_trial_can_be_run_again_from_the_report_alone(results, tmp_path):
    (one,) = prepare(results, "report", out=tmp_path / "report.html")
    trial, study = (unescape(each) for each in re.findall(r"<details>.*?<pre>(.*?)</pre>", one.text, re.DOTALL))
    own = (one.trial.directory / "config.yaml").read_text()
    assert TrainerConfig.model_validate(yaml.safe_load(trial)) == TrainerConfig.model_validate(yaml.safe_load(own))
    assert StudySpec.model_validate(yaml.safe_load(study)) == results.spec


@pytest.mark.parametrize(
    ("lifts", "says"),
    [
        # One sample more on every problem, or three on one: there are counts, and no error of 0 or of one problem.
        ([1] * 30, "+0.0313 (better on 30, worse on 0 of 30 problems)."),
        ([3] + [0] * 29, "+0.0031 (better on 1, worse on 0 of 30 problems)."),
        ([0] * 30, "+0.0000 (the same on all 30)."),
        ([2, 0] * 15, "+0.0313 ± 0.0058 across problems, more than twice its error."),
        ([0, -2] * 15, "-0.0313 ± 0.0058 across problems, more than twice its error."),
        ([3, -2] * 15, "+0.0156 ± 0.0145 across problems, not more than twice its error."),
    ],
)
def test_a_control_is_compared_problem_by_problem_and_noise_is_called_noise(results, tmp_path, lifts, says):
    mine, other = (
        replace(
            trial,
            evaluations=tuple(
                each.model_copy(update={"scores": tuple(
                    score(one.name, [3 + number + lift for number, lift in enumerate(lifts_of)], 32)
                    for one in each.scores
                )}) for each in trial.evaluations
            ),
        )
        for lifts_of, trial in zip((lifts, [0] * 30), results.trials, strict=True)
    )  # fmt: skip
    made = replace(results, trials=(mine, replace(other, control="DAPO")))
    (one,) = prepare(made, "report", number=0, out=tmp_path / "report.html")
    assert f"against trial 1 (DAPO) on aime_2024 at step 360, one run of each, problem by problem: {says}" in one.text


def test_the_base_models_score_is_not_shown_as_that_of_a_pruned_trial(results, tmp_path):
    """Where a set is reported at the end only, a pruned trial has nothing but the score of step 0."""
    first, last = results.trials[0].evaluations
    pruned = last.model_copy(update={"step": 9, "scores": last.scores[:1]})
    trial = replace(results.trials[0], state="PRUNED", pruned_at=9, value=None, evaluations=(first, pruned))
    control = results.trials[1]
    early = control.evaluations[1].model_copy(update={"step": 9, "scores": last.scores[:1]})
    evaluations = (control.evaluations[0], early, control.evaluations[1])
    made = replace(results, trials=(trial, replace(control, control="DAPO", evaluations=evaluations)))
    (one,) = prepare(made, "report", number=0, out=tmp_path / "report.html")
    assert "aime_2025 avg@32, only reported" not in one.text
    # At the last step that both have, not at the last of each.
    assert "on aime_2024 at step 9, one run of each, problem by problem: +0.0000 (the same on all 30)" in one.text
    assert "problem by problem" in one.text and "on aime_2025 at" not in one.text


def test_what_a_control_differs_in_beside_fipo_is_told_once(tmp_path):
    made = confirmed(tmp_path / "study")
    control = replace(made.trials[0], control="DAPO", params=PAPER | {"fipo.epsilon_f_high": 0.0}, beside={"seed": 9})
    (one,) = prepare(replace(made, trials=(control, *made.trials[1:])), "report", out=tmp_path / "report.html")
    differ = f"Trial 1 and DAPO differ in seed ({made.spec.training_seed} and 9) too"
    assert one.text.count(f"{differ}, so this is not the effect of FIPO alone.") == 1


def test_of_a_control_that_is_the_best_the_report_says_how_the_others_stand(results, tmp_path):
    first, second = results.trials
    made = replace(results, trials=(replace(first, control="DAPO", value=0.9), second))
    (one,) = prepare(made, "report", out=tmp_path / "report.html")
    assert one.trial is not None and one.trial.number == 0
    assert one.text.count("Trial 1 against trial 0 (DAPO) on aime_2024 at step 360, one run of each") == 1
    assert "replicas.top=3, then fipo resume" in one.text
    assert not re.search(r"fipo (set|resume) [^<]*\.<", one.text)  # a full stop would become part of the command
    three = make_results(tmp_path / "three", papers(3))
    names = zip(three.trials, ("DAPO", "GRPO", None), (0.9, 0.8, 0.7), strict=True)
    trials = tuple(replace(each, control=control, value=value) for each, control, value in names)
    for number in (0, 1):
        (one,) = prepare(replace(three, trials=trials), "report", number=number, out=tmp_path / "report.html")
        told = {line for line in re.findall(r"Trial \d[^,.<]* against [^,.<]* on aime_2024", one.text) if "(" in line}
        mine, other = ("0 (DAPO)", "1 (GRPO)") if number == 0 else ("1 (GRPO)", "0 (DAPO)")
        assert told == {
            f"Trial {mine} against trial {other} on aime_2024",
            f"Trial 2 against trial {mine} on aime_2024",
        }
    (other,) = prepare(made, "report", number=1, out=tmp_path / "report.html")
    assert other.text.count("Trial 1 against trial 0 (DAPO) on aime_2024 at step 360, one run of each") == 1


def test_equals_of_what_is_exported_are_named(tmp_path):
    """Also those that the confirmations have left out."""
    made = make_results(tmp_path / "study", papers(3))
    made = replace(made, trials=tuple(replace(each, value=0.5) for each in made.trials))
    for number, chosen in ((0, "best of 3 COMPLETE"), (2, "rank 3 of 3 COMPLETE")):
        (one,) = prepare(made, number=number, out=tmp_path / "best.yaml")
        assert re.search(rf"# {chosen} among 3 trials by aime_2024/avg@32, with 2 others; the highest", one.text)
    again = replace(made.trials[0], number=3, confirms=0, beside={"seed": 7})
    spec = made.spec.model_copy(update={"replicas": Replicas(seeds=2, top=1), "trials": 3})
    (one,) = prepare(replace(made, spec=spec, trials=(*made.trials, again)), "report", out=tmp_path / "report.html")
    assert "Trials 1, 2 did as well by a single run" not in one.text  # a confirmation is still to come
    more = replace(again, number=4, beside={"seed": 8})
    (one,) = prepare(replace(made, spec=spec, trials=(*made.trials, again, more)), "report", out=tmp_path / "r.html")
    assert "Trials 1, 2 did as well by a single run" in one.text


def test_story_card_and_table_tell_each_number_in_its_place(tmp_path):
    made = make_results(tmp_path / "study", [PAPER])
    (trial,) = made.trials
    numbers = [[(0.1, 100.0), (0.2, 110.0)], [(0.4, 300.0), (0.5, 310.0)]]  # before and after, on both sets
    errors = {"sampling_error": 0.01, "problem_error": 0.05, "cons": 0.9}
    evaluations = tuple(
        evaluation.model_copy(update={"scores": tuple(
            score.model_copy(update={"accuracy": accuracy, "mean_length": length, **errors})
            for score, (accuracy, length) in zip(evaluation.scores, own, strict=True)
        )})
        for evaluation, own in zip(trial.evaluations, numbers, strict=True)
    )  # fmt: skip
    results = replace(made, trials=(replace(trial, evaluations=evaluations),))
    (one,) = prepare(results, "report", out=tmp_path / "report.html")
    assert (
        "Trial 0 went from avg@32 0.100 to 0.400 on aime_2024 while its responses went from 100.0 to 300.0 tokens."
        " On aime_2025, which chose nothing: 0.200 to 0.500." in one.text
    )
    assert '<b>0.500</b><span class="soft">± 0.050 across problems</span>' in one.text
    assert "<td>0.5000</td><td>0.0100</td><td>0.0500</td><td>32</td><td>310.0</td>" in one.text


def confirmed(directory: Path) -> StudyResults:
    """Two configurations, each with two fresh seeds, and an address that is nobody's business."""
    made = make_results(directory, papers(6))
    values = ((0.50, None), (0.85, None), (0.52, 0), (0.50, 0), (0.79, 1), (0.80, 1))
    trials = (
        replace(trial, value=value, confirms=confirms, beside={} if confirms is None else {"seed": 1 + index % 2})
        for index, (trial, (value, confirms)) in enumerate(zip(made.trials, values, strict=True))
    )
    spec = made.spec.model_copy(update={"notify": Notify(webhook="https://chat.example/TOKEN")})
    return replace(made, spec=spec, trials=tuple(trials))


def test_with_confirmations_the_seeds_speak_of_the_settings(tmp_path):
    results = confirmed(tmp_path / "study")
    (one,) = prepare(results, "report", out=tmp_path / "report.html")
    assert "aime_2024/avg@32 over 2 fresh seeds 0.7950 +- 0.0050 (seeds)" in one.text
    assert f"<li>The {escape(seeds_against_settings(results.evidence))}.</li>" in one.text
    for number, mean in enumerate(("0.510 ±0.010", "0.795 ±0.005")):
        assert f"Over 2 fresh seeds: aime_2024/avg@32 {mean} of trial {number}" in one.text
    control = replace(results, trials=(replace(results.trials[0], control="DAPO"), *results.trials[1:]))
    (against,) = prepare(control, "report", out=tmp_path / "against.html")
    assert "Trial 1 against DAPO (trial 0), over 2 fresh seeds of both, paired: +0.285 ±0.015 on" in against.text
    assert "<b>0.795</b>" in one.text and "± 0.005 over seeds" in one.text
    assert "confirms 1" in one.text
    (alone,) = prepare(make_results(tmp_path / "alone", [PAPER]), "report", out=tmp_path / "alone.html")
    assert "No configuration was trained with a second seed" in alone.text

    (table,) = prepare(results, "json", out=tmp_path / "trials.json")
    data = json.loads(table.text)
    assert data["seeds_against_settings"] == seeds_against_settings(results.evidence)
    assert [each["fresh_seeds"] for each in data["trials"]] == [2, 2, None, None, None, None]
    assert [each["confirms"] for each in data["trials"]] == [None, None, 0, 0, 1, 1]
    assert [each["mean_over_seeds"] is None for each in data["trials"]] == [False, False, True, True, True, True]
    assert data["trials"][1]["mean_over_seeds"] == pytest.approx(0.795)
    assert data["trials"][1]["seed_error"] == pytest.approx(0.005)


def test_seeds_that_agree_have_no_error_of_zero_anywhere(tmp_path):
    made = confirmed(tmp_path / "study")
    trials = tuple(replace(trial, value=0.8) if trial.confirms == 1 else trial for trial in made.trials)
    (one,) = prepare(replace(made, trials=trials), "report", out=tmp_path / "report.html")
    assert 'fresh seeds</span><b>0.800</b><span class="soft">all the same</span>' in one.text
    assert "over 2 fresh seeds 0.8000 (all the same); the run that was selected" in one.text
    assert not re.search(r"(\+-|±) ?0\.0+\b", one.text[one.text.index("</style>") :])
    (table,) = prepare(replace(made, trials=trials), "json", out=tmp_path / "trials.json")
    assert json.loads(table.text)["trials"][1]["seed_error"] == 0


@pytest.mark.parametrize("target", ["json", "csv", "report"])
def test_where_a_study_sends_its_news_is_not_published(tmp_path, target):
    (one,) = prepare(confirmed(tmp_path / "study"), target, out=tmp_path / "out")
    assert "TOKEN" not in one.text


@pytest.mark.browser
def test_a_browser_shows_the_report_without_a_network(results, tmp_path):
    exports = prepare(results, "report", number=0, out=tmp_path / "report.html")
    write(results, exports)
    asked, wrong = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", shutil.which("chromium")), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(f"file://{tmp_path / 'report.html'}")
        page.wait_for_selector(".scatterlayer .trace >> nth=1", state="attached")
        assert page.locator("tr.chosen").count() == 1
        assert EVIL in str(page.locator(".legend").text_content())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert asked == [f"file://{tmp_path / 'report.html'}"]
    assert wrong == []


def test_json_holds_every_trial_with_its_evaluations(results, tmp_path):
    (one,) = prepare(results, "json", out=tmp_path / "trials.json")
    data = json.loads(one.text)
    assert [trial["number"] for trial in data["trials"]] == [0, 1]
    assert [trial["mean_over_seeds"] for trial in data["trials"]] == [None, None]  # one seed is no mean
    assert data["trials"][1]["evaluations"][-1]["scores"][0]["solved"] == list(
        results.trials[1].evaluations[-1].scores[0].solved
    )
    assert data["selection_corrected"]["method"] == "split halves over problems"
    assert data["selection_corrected"]["value"] <= data["selection_corrected"]["selected"]
    assert data["trials"][0]["model"] == "Qwen/Qwen2.5-Math-7B"
    assert "torch 2." in data["exported_with"] and datetime.fromisoformat(data["exported"]).tzinfo is not None
    assert data["trained_with"] == "versions that were not noted"


def test_csv_has_one_row_per_trial_and_no_formula(results, tmp_path):
    results = replace(results, trials=(replace(results.trials[0], control="=cmd()"), results.trials[1]))
    (one,) = prepare(results, "csv", out=tmp_path / "trials.csv")
    rows = list(csv.DictReader(io.StringIO(one.text)))
    assert [row["params.fipo.epsilon_f_low"] for row in rows] == ["0.0", "0.2"]
    assert rows[0]["control"] == "'=cmd()"
    assert float(rows[1]["aime_2024.accuracy"]) == results.trials[1].evaluations[-1].scores[0].accuracy
    assert float(rows[1]["aime_2025.problem_error"]) > 0
    for row in rows:  # which may be split, or joined with other studies
        assert (row["study"], row["metric"], row["seed"]) == ("golden", "aime_2024/avg@32", "0")
        assert row["aime_2025.path"] == "math-ai/aime25:test"
        assert "split halves" in row["selection_method"] and "torch 2." in row["exported_with"]


def solved_alike(directory: Path, solved: int) -> StudyResults:
    """A study of one trial that solved every problem `solved` times of 32 at its end."""
    results = make_results(directory, [PAPER])
    (trial,) = results.trials
    scores = tuple(score(each.name, [solved] * 30, 32) for each in trial.evaluations[-1].scores)
    evaluations = (trial.evaluations[0], trial.evaluations[-1].model_copy(update={"scores": scores}))
    return replace(results, trials=(replace(trial, evaluations=evaluations),))


def test_without_spread_the_table_and_the_report_tell_a_bound_and_no_error_of_0(tmp_path):
    results = solved_alike(tmp_path / "study", 32)
    (one,) = prepare(results, "csv", out=tmp_path / "trials.csv")
    (row,) = csv.DictReader(io.StringIO(one.text))
    assert (row["aime_2024.sampling_error"], row["aime_2024.problem_error"], row["aime_2024.high_95"]) == (
        "",
        "",
        "1.0",
    )
    assert float(row["aime_2024.low_95"]) == pytest.approx(0.025 ** (1 / 960))
    (one,) = prepare(results, "json", out=tmp_path / "trials.json")
    last = json.loads(one.text)["trials"][0]["evaluations"][-1]["scores"][0]
    (status,) = json.loads(as_json(results))["trials"]
    for told in (last, status["evaluation"]["scores"][0]):
        assert (told["sampling_error"], told["problem_error"], told["high_95"]) == (None, None, 1.0)
        assert told["low_95"] == pytest.approx(0.025 ** (1 / 960))
    (one,) = prepare(results, "report", out=tmp_path / "report.html")
    assert escape(">= 0.9962, 95 %") in one.text and ">0.0000<" not in one.text


@pytest.mark.parametrize(
    ("solved", "words"),
    [
        (32, "avg@32 1.0000 >= 0.9962, 95 % (sampling) >= 0.8843, 95 % (across 30 problems), mean"),
        (0, "avg@32 0.0000 <= 0.0038, 95 % (sampling) <= 0.1157, 95 % (across 30 problems), mean"),
        (16, "avg@32 0.5000 +- 0.0164 (sampling), mean"),  # equally hard: neither an error over problems nor a bound
    ],
)
def test_the_header_tells_a_bound_only_where_every_response_was_alike(tmp_path, solved, words):
    (one,) = prepare(solved_alike(tmp_path / "study", solved), out=tmp_path / "best.yaml")
    assert words in one.text
