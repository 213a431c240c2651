"""The app's first page in Streamlit's own test runner, on studies that have little or nothing to show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboards
from dashboards.catalogue import Entry
from dashboards.source import Reader, Study, fingerprint
from dashboards.views.overview import _over_seeds
from study.against import seed_means_reported
from study.evidence import Evidence
from study.lock import note_driver
from study.results import StudyResults, read_study
from study.seeds import seeds_against_settings
from tests.dashboards.synthetic import SETS, SyntheticStudy
from trainer.digits import per_cent

APP = Path(dashboards.__file__).with_name("app.py")


def shown(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr(sys, "argv", ["app.py", str(directory)])
    app = AppTest.from_file(APP, default_timeout=60).run()
    assert not app.exception
    return app


def test_a_finished_study_shows_its_best_trial_with_both_errors(
    finished: StudyResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = shown(finished.directory, monkeypatch)
    assert finished.best is not None
    score = finished.best.evaluations[-1].scores[0]
    assert app.metric[0].value == f"{per_cent(score.accuracy)} %"
    errors = f"± {per_cent(score.sampling_error)} sampling, ± {per_cent(score.problem_error)} problems"
    assert app.metric[0].delta.replace("\N{NO-BREAK SPACE}", " ") == errors
    assert app.metric[3].value == "12 of 12"


def test_nothing_stands_above_the_title(finished: StudyResults, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit would write a bare string of the script there."""
    assert shown(finished.directory, monkeypatch).main.children[0].type == "title"


def test_a_directory_without_a_study_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = shown(tmp_path, monkeypatch)
    assert app.title[0].value == "No study to show yet"


def test_a_link_to_a_study_that_is_gone_says_which_is_shown_instead(
    finished: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("left", "other"):
        shutil.copytree(finished.directory, tmp_path / name)
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path)])
    app = AppTest.from_file(APP, default_timeout=60)
    app.query_params["study"] = "gone"
    for _ in range(2):  # it stays
        (warning,) = app.run().warning
        assert "names the study gone, which is not here" in warning.value and warning.value.endswith("This is left.")
    app.query_params["study"] = "other"
    assert not app.run().warning


def test_a_study_without_trials_says_that_it_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SyntheticStudy(tmp_path / "new")
    assert "begun" in shown(tmp_path / "new", monkeypatch).info[0].value


def test_that_a_study_waits_for_room_stands_beside_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = SyntheticStudy(tmp_path / "new")
    study.begin()
    before, read = fingerprint(study.directory), Reader(Entry("new", str(study.directory)))
    first = read.current()
    note_driver(study.directory, waits="no room")
    assert fingerprint(study.directory) != before and read.current().version > first.version
    (warning,) = shown(study.directory, monkeypatch).sidebar.warning
    assert warning.value.replace("\\", "") == "no room."


def test_running_trials_without_an_evaluation_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = SyntheticStudy(tmp_path / "new")
    study.begin()
    assert "running" in shown(tmp_path / "new", monkeypatch).info[0].value


def test_a_study_that_stopped_early_says_how_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = SyntheticStudy(tmp_path / "new")
    study.begin()
    study.close()
    (warning,) = shown(tmp_path / "new", monkeypatch).warning
    assert "stopped" in warning.value and "fipo resume" in warning.value


def test_confirmed_configurations_are_shown_with_the_error_over_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = SyntheticStudy(tmp_path / "seeds", trials=2)
    for _ in range(2):
        study.run(study.begin())
    for number in (0, 1):
        for seed in (1, 2):
            study.confirm(number, seed=seed)
    app = shown(tmp_path / "seeds", monkeypatch)
    results = read_study(study.directory)
    best = results.evidence[0]
    assert (len(best.fresh), len(results.trials)) == (2, 6)
    assert app.metric[0].value == f"{100 * best.mean:.1f} %"
    assert app.metric[0].delta == f"± {100 * best.seed_error:.1f} over 2 fresh seeds"
    (table,) = [each.value for each in app.dataframe if "seeds" in each.value]
    assert table["seeds"].to_list() == ["2", "2"]
    assert set(table["first"]) == {100 * results.trials[0].value, 100 * results.trials[1].value}
    scatter = re.search(r"a run varies by \d\\?\.(\d+)", seeds_against_settings(results.evidence))[1]
    said = [each.value.replace("\\", "") for each in app.markdown]
    assert any(f"varies by {int(scatter) / 10:.1f} points" in each for each in said)  # 0.019 as 1.9
    # The set that chose nothing is judged by the same seeds, not by the run that was chosen.
    reported = seed_means_reported(results)[results.best.number][SETS[1]]
    (card,) = [each for each in app.metric if SETS[1] in each.label.replace("\\", "")]
    assert card.value == f"{100 * reported.mean:.1f} %"
    assert card.delta == f"± {100 * reported.seed_error:.1f} over 2 fresh seeds"
    assert table[f"{SETS[1]} again"][0] == f"{100 * reported.mean:.1f} ± {100 * reported.seed_error:.1f}"


def test_seeds_with_the_same_mean_have_errors_of_their_own(tmp_path: Path) -> None:
    """Where it is a mean of other problems: the errors of one are not those of the others."""
    study = SyntheticStudy(tmp_path / "seeds", trials=1)
    study.run(study.begin())
    study.confirm(0, seed=1)

    def said(*seeds: int) -> str:
        found = Reader(Entry("seeds", str(study.directory))).latest().found
        assert isinstance(found, Study)
        return _over_seeds(found, Evidence(0, 0.5, dict.fromkeys(seeds, 0.25)))

    assert re.fullmatch(r"1 fresh seed; each ±\s[\d.]+\ssampling, ±\s[\d.]+\sproblems", said(1))
    study.confirm(0, seed=2)
    assert said(1, 2) == "all 2 fresh seeds the same; the errors of each stand in the table"
    study.close()


def test_a_study_whose_trials_all_failed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = SyntheticStudy(tmp_path / "bad")
    study.fail(study.begin(), "loss is not finite at step 1")
    app = shown(tmp_path / "bad", monkeypatch)
    assert "1 failed" in app.error[0].value
    assert app.dataframe[0].value["fail_reason"].to_list() == ["loss is not finite at step 1"]


def test_before_any_trial_completes_there_is_no_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = SyntheticStudy(tmp_path / "young")
    study.run(study.begin(), until=12)
    app = shown(tmp_path / "young", monkeypatch)
    assert app.metric[0].value == "none yet"


def test_a_torn_last_line_is_survived(finished: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(finished.directory, tmp_path / "torn")
    lines = copy / "trials" / "0001" / "evaluations.jsonl"
    text = lines.read_text(encoding="utf-8").splitlines(keepends=True)
    lines.write_text("".join(text[:3]) + text[3][:40], encoding="utf-8")
    assert "12 of 12" in [card.value for card in shown(copy, monkeypatch).metric]


def test_an_accuracy_that_is_nan_is_survived(
    finished: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(finished.directory, tmp_path / "nan")
    lines = copy / "trials" / "0001" / "evaluations.jsonl"
    text = re.sub(r'"accuracy": [^,]+', '"accuracy": NaN', lines.read_text(encoding="utf-8"))
    lines.write_text(text, encoding="utf-8")
    assert shown(copy, monkeypatch).metric[3].value == "12 of 12"


def test_markup_in_a_control_name_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = SyntheticStudy(tmp_path / "hostile", control="[x](http://x)<img src=x>")
    study.run(study.begin())
    app = shown(tmp_path / "hostile", monkeypatch)
    shown_text = [each.value for each in [*app.markdown, *app.caption, *app.title]]
    assert any("img" in each for each in shown_text)
    assert not any(re.search(r"(?<!\\)<img|(?<!\\)\]\(|\](?<!\\)\(", each) for each in shown_text)


def test_a_study_that_begins_leaves_who_looks_at_another_where_he_is(
    finished: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.directory, tmp_path / "first")
    app = shown(tmp_path, monkeypatch)
    assert not app.selectbox
    shutil.copytree(finished.directory, tmp_path / "second")
    os.utime(tmp_path / "second" / "study.yaml")  # the newest is listed first
    app.run()
    assert list(app.selectbox[0].options) == ["second", "first"]
    assert app.selectbox[0].value == "first" and app.query_params["study"] in ("first", ["first"])
    app.selectbox[0].select("second").run()
    assert app.query_params["study"] in ("second", ["second"])


def test_the_dashboard_loads_nothing_that_trains() -> None:
    code = (
        "import sys, dashboards.server, dashboards.app\n"
        "heavy = {'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
