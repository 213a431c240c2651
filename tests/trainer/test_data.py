"""Every schema that people publish AIME and DAPO data in is read; anything else is refused with the mend."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import datasets
import polars
import pytest

from trainer.data import load_problems, require_integers
from trainer.errors import UserError
from trainer.problems import Problem

SHARED = Path(__file__).parents[3] / "shared" / "aime"


def verl_row(text: str, answer: str) -> dict:
    return {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": text}],
        "reward_model": {"ground_truth": answer, "style": "rule"},
    }


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "1+1=", "answer": "2"},
        {"Problem": "1+1=", "Answer": 2},
        {"ID": "2024-I-1", "Problem": "1+1=", "Solution": "two", "Answer": 2},
        {"question": "1+1=", "answer": "2"},
        {"QUESTION": "1+1=", "ground_truth": "2"},
        {"prompt": "1+1=", "answer": "2"},
        verl_row("1+1=", "2"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_known_schemas_in_every_kind_of_file(row: dict, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    frame = polars.DataFrame([row])
    nested = any(isinstance(value, (list, dict)) for value in row.values())
    if suffix == ".csv" and nested:
        return  # CSV has no nested columns
    {".jsonl": frame.write_ndjson, ".json": frame.write_json, ".csv": frame.write_csv,
     ".parquet": frame.write_parquet}[suffix](path)  # fmt: skip
    assert load_problems(str(path)) == [Problem("1+1=", "2", whole=nested)]


def test_repeats_count_once_and_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "aime.parquet"
    rows = [verl_row(f"{i}+1=", str(i + 1)) for i in range(30)] * 32
    polars.DataFrame(rows).write_parquet(path)
    with caplog.at_level(logging.WARNING):
        problems = load_problems(str(path))
    assert [each.prompt for each in problems] == [f"{i}+1=" for i in range(30)]
    assert "960 rows are 30 distinct problems" in caplog.text


def test_the_hundredfold_dapo_set_is_one_problem_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Copies differ in columns that do not matter, and rows keep their number in errors."""
    path = tmp_path / "dapo.parquet"
    copies = [(copy, i) for copy in range(100) for i in range(9)]
    rows = [verl_row(f"{i}+1=", str(i + 1)) | {"extra_info": {"index": f"{copy}-{i}"}} for copy, i in copies]
    polars.DataFrame(rows).write_parquet(path)
    with caplog.at_level(logging.WARNING):
        assert len(load_problems(str(path))) == 9
    assert "900 rows are 9 distinct problems" in caplog.text and "several answers" not in caplog.text
    polars.DataFrame([*rows, verl_row("", "2")]).write_parquet(path)
    with pytest.raises(UserError, match="row 901: no problem text"):
        load_problems(str(path))


def test_a_hub_name_is_loaded_by_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is the one thing that cannot be here; the data set is a real one."""
    asked = []

    def hub(name: str, config: str | None, *, split: str, trust_remote_code: bool) -> datasets.Dataset:
        asked.append((name, config, split, trust_remote_code))
        if config is not None:
            return datasets.Dataset.from_list([{"question": f"{config}+1=", "answer": "2"}])
        if split == "train":
            raise ValueError("Unknown split \"train\". Should be one of ['test'].")
        return datasets.Dataset.from_list([verl_row("1+1=", "2")] * 3 + [{"Problem": None}])

    monkeypatch.setattr(datasets, "load_dataset", hub)
    with pytest.raises(UserError, match="o/n:test row 4: no problem text"):
        load_problems("o/n:test")
    with pytest.raises(UserError, match=r"o/n: the data set cannot be loaded .*Should be one of \['test'\]"):
        load_problems("o/n")
    assert load_problems("o/n:I+II:test") == [Problem("I+1=", "2"), Problem("II+1=", "2")]
    assert asked == [(*each, False) for each in [("o/n", None, "test"), ("o/n", None, "train"),
                                                 ("o/n", "I", "test"), ("o/n", "II", "test")]]  # fmt: skip


def test_problems_with_several_answers_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"problem": "a", "answer": "025"}\n{"problem": "a", "answer": 25}\n')
    with caplog.at_level(logging.WARNING):
        assert load_problems(str(path)) == [Problem("a", "025")]
    assert "several answers" not in caplog.text
    path.write_text('{"problem": "a", "answer": "025"}\n{"problem": "a", "answer": 26}\n')
    with caplog.at_level(logging.WARNING):
        assert load_problems(str(path)) == [Problem("a", "025")]
    assert "problems with several answers, of which the first is taken: 1" in caplog.text


def test_problems_with_several_answers_are_counted_in_a_table_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "data.csv"
    path.write_text("problem,answer\na,25\na,26\na,25\n")
    with caplog.at_level(logging.WARNING):
        assert load_problems(str(path)) == [Problem("a", "25")]
    assert "problems with several answers, of which the first is taken: 1" in caplog.text


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    """A byte order mark, an empty line, a line separator within a string, numbers beside text, leading zeros."""
    path = tmp_path / "p.jsonl"
    rows = [{"problem": "1+1=", "answer": 2}, {"problem": "Löse x = 25\u2028jetzt", "answer": "025"}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text(f"{lines[0]}\n\n{lines[1]}\n", encoding="utf-8-sig")
    assert load_problems(str(path)) == [Problem("1+1=", "2"), Problem("Löse x = 25\u2028jetzt", "025")]
    (tmp_path / "p.csv").write_text("Problem,Answer\n1+1=,02\n1+2=,3.0\n")
    assert load_problems(str(tmp_path / "p.csv")) == [Problem("1+1=", "02"), Problem("1+2=", "3.0")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "1+1=", "answer": "2"}', "no problem text; its columns are text, answer"),
        ('{"problem": 3, "answer": 2}', "no problem text"),
        ('{"problem": "  ", "answer": 2}', "no problem text"),
        ('{"problem": "1+1="}', "no answer; its columns are problem"),
        ('{"problem": "1+1=", "answer": null}', "no answer"),
        ('{"problem": "1+1=", "answer": true}', "no answer"),
        ('{"problem": "1+1=", "answer": [2]}', "no answer"),
        ('{"prompt": [{"role": "system"}, {"role": "user"}], "answer": "2"}', "prompt has 2 messages"),
        ('{"problem": "1+1=", "answer": 2', "is not JSON"),
        ("[" * 100_000, "is not JSON (nested too deeply)"),
        ('{"problem": "1+1=", "answer": ' + "9" * 5000 + "}", "is not JSON (a number is too long)"),
        ("[1, 2]", "is not a JSON object"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_line(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"problem": "1+1=", "answer": "2"}\n' + line + "\n")
    with pytest.raises(UserError) as caught:
        load_problems(str(path))
    assert str(caught.value).startswith(f"{path} line 2: ") and reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jsonl", b"", "holds no rows"),
        ("empty.csv", b"", "cannot be read"),
        ("latin.jsonl", '{"problem": "é"}'.encode("latin-1"), "is not UTF-8 text"),
        ("torn.parquet", b"PAR1", "cannot be read"),
        ("object.json", b'{"problem": "1+1=", "answer": 2}', "is not a JSON array"),
    ],
)
def test_an_unusable_file_is_refused_by_name(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        load_problems(str(tmp_path / name))
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere.jsonl", "./nowhere", "embedded:test", "a/b/c", "~nobody-at-all/x.jsonl"])
def test_a_path_to_nothing_is_refused(path: str) -> None:
    with pytest.raises(UserError, match="no such"):
        load_problems(path)


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "p.jsonl").write_text('{"problem": "1+1=", "answer": "2"}\n')
    assert load_problems("~/p.jsonl") == [Problem("1+1=", "2")]


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_text("")
    with pytest.raises(UserError, match=r"unknown kind of file; allowed: \.jsonl, \.json, \.csv, \.parquet"):
        load_problems(str(tmp_path / "data.xlsx"))


@pytest.mark.parametrize("answer", ["1000", "-1", "x", "1/2", "²", "٢٥", "9" * 5000])
def test_an_aime_answer_is_an_integer_from_0_to_999(answer: str) -> None:
    require_integers([Problem("p", "025"), Problem("p", "0"), Problem("p", "999")], name="aime_2024", path="f")
    with pytest.raises(UserError, match=rf"problem 2 of set aime_2024 has the answer '{answer}'"):
        require_integers([Problem("p", "1"), Problem("p", answer)], name="aime_2024", path="f.jsonl")


@pytest.mark.parametrize("name", ["aime_2024.jsonl", "aime_2025.jsonl", "aime-2024.verl.parquet"])
def test_the_real_aime_files_are_thirty_integer_problems(name: str, tmp_path: Path) -> None:
    path = SHARED / name
    if not path.exists():  # the texts are not the project's to carry; a checkout may lack them
        path = tmp_path / "aime.jsonl"
        path.write_text("".join(json.dumps({"problem": f"p{i}", "answer": f"{i:03d}"}) + "\n" for i in range(30)))
    problems = load_problems(str(path))
    assert len(problems) == 30
    require_integers(problems, name="aime", path=name)
