"""`fipo eval` scores a model on files in the schemas that people have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def fipo_eval(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from study.cli import main; main()", "eval", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def aime(tmp_path: Path) -> Path:
    """Thirty problems with integer answers, in the shape of the AIME files."""
    path = tmp_path / "aime_2024.jsonl"
    rows = [{"ID": f"2024-{i}", "Problem": f"{i + 10}+{i + 20}+31=", "Answer": f"{2 * i + 61:03d}"} for i in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_scores_come_with_k_and_both_errors(aime: Path) -> None:
    result = fipo_eval("embedded", "--data", f"aime_2024={aime}", "--data", "sums=embedded:select", "--samples", "4")
    assert result.returncode == 0, result.stderr
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    assert [row[0] for row in table] == ["aime_2024", "sums"]
    for row in table:
        assert row[6] == "4"
        accuracy, sampling, problems = (float(cell.rstrip("%")) for cell in row[1:4])
        assert 0 < accuracy < 100 and sampling > 0 and problems > 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["embedded", "--data", "nameless"], "must be NAME=PATH"),
        (["embedded", "--data", "a=missing.jsonl"], "missing.jsonl: no such file"),
        (["./nothing", "--data", "a=embedded:select"], "no model there"),
        (["embedded", "--data", "a=embedded:select", "--samples", "0"], "greater than or equal to 1"),
        (["embedded", "--data", "a=embedded:select", "--template", "x"], "data.template = 'x'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], line: str) -> None:
    result = fipo_eval(*arguments)
    assert result.returncode == 2
    assert line in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
