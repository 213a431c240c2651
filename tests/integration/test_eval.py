"""`fipo eval` scores a model on files in the schemas that people have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from study.cli import main
from trainer.base_model import ensure_base_model

pytestmark = pytest.mark.slow


@pytest.fixture
def aime(tmp_path: Path) -> Path:
    """Thirty problems with integer answers, in the shape of the AIME files."""
    path = tmp_path / "aime_2024.jsonl"
    rows = [{"ID": f"2024-{i}", "Problem": f"{i + 10}+{i + 20}+31=", "Answer": f"{2 * i + 61:03d}"} for i in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def cells(output: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    return {row[0]: row[1:] for row in rows}


def percent(cell: str) -> float:
    assert cell.endswith("%")
    return float(cell.rstrip("%"))


def test_scores_are_laid_out_as_in_table_1_with_both_errors(aime: Path) -> None:
    command = [sys.executable, "-c", "from study.cli import main; main()", "eval", "embedded", "--samples", "4"]
    command += ["--data", f"aime_2024={aime}", "--data", "sums=embedded:select"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    head = [[cell.strip() for cell in line.split("┃")[1:-1]] for line in result.stdout.splitlines() if "┃" in line]
    assert head == [
        ["", "aime_2024", "", "", "sums", "", ""],
        ["model", "avg@4", "cons@4", "pass@4", "avg@4", "cons@4", "pass@4"],
    ]
    table = cells(result.stdout)
    for first in (0, 3):
        average, consensus, passed = (percent(cell) for cell in table["embedded"][first : first + 3])
        assert 0 < average <= passed <= 100 and 0 < consensus <= 100
        assert percent(table["± sampling"][first]) > 0 and percent(table["± problems"][first]) > 0
        assert float(table["length, tokens"][first]) > 1


def test_problems_that_the_model_cannot_read_are_scored_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """The tiny model has no letters: on AIME it answers what it reads of the numbers, and a line says so."""
    path = tmp_path / "aime.jsonl"
    path.write_text("".join(f'{{"problem": "Find $1{i}$ of {i}.", "answer": "{i:03d}"}}\n' for i in range(5)))
    words = ["fipo", "eval", str(ensure_base_model()), "--data", f"aime_2024={path}", "--samples", "1"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert cells(capsys.readouterr().out)["± sampling"][0] == "-"
    assert "aime_2024: the tokenizer of model.path loses characters in 5 of 5 prompts" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["embedded", "--data", "nameless"], "must be NAME=PATH"),
        (["embedded", "--data", "a=missing.jsonl"], "'missing.jsonl': no such file"),
        (["embedded", "--data", "aime_2024=words.jsonl"], "problem 1 of set aime_2024 has the answer 'x'; an AIME"),
        (["embedded", "--data", "a=schema.jsonl"], "line 1: no problem text; its columns are text"),
        (["./nothing", "--data", "a=embedded:select"], "'./nothing': no config.json there"),
        (["embedded", "--data", "a=embedded:select", "--samples", "0"], "greater than or equal to 1"),
        (["embedded", "--data", "a=embedded:select", "--template", "x"], "data.template = 'x'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "words.jsonl").write_text('{"problem": "1+1=", "answer": "x"}\n')
    (tmp_path / "schema.jsonl").write_text('{"text": "1+1=", "answer": "2"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fipo", "eval", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capfd.readouterr()
    assert end.value.code == 2
    assert line in printed.err and "Traceback" not in printed.err
    assert len(printed.err.strip().splitlines()) == 1 and not printed.out
