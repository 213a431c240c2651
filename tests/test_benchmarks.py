"""Benchmarks keep one interface, and their table says what was measured. What they measure is not tested."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import benchmarks.run as run
from benchmarks.result import Row, compare

SCRIPTS = Path(run.__file__).parent


def told(rows: list[Row], failure: str | None = None) -> dict:
    return {
        "date": "2026-01-02", "machine": "abacus", "load before": 0.5, "versions": {"python": "3.11"}, "seconds": 1,
        "failure": failure, "rows": [vars(each) for each in rows],
    }  # fmt: skip


@pytest.mark.parametrize("name", run.LIMITS)
def test_every_benchmark_gives_rows_and_can_be_run_alone(name: str) -> None:
    tree = ast.parse((SCRIPTS / f"{name}.py").read_text(encoding="utf-8"))
    assert {"rows", "main"} <= {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


@pytest.mark.parametrize(("ratio", "value", "spread"), [("ours / peer", 0.5, (0.25, 1)), ("peer / ours", 2, (1, 4))])
def test_ratios_are_of_the_medians_and_spreads_of_the_pairs(ratio: str, value: float, spread: tuple) -> None:
    row = compare("c", "p", [1, 2, 3], [4, 4, 3], unit="s", ratio=ratio)
    assert (row.ratio, row.ours, row.peer, row.spread) == (value, 2, 4, spread)
    assert row.met is None


def test_the_table_says_what_was_met_what_was_missed_and_what_failed() -> None:
    fast, slow = (
        compare(claim, "peer", [1.0], [3.0], unit="s", ratio="peer / ours", target=target)
        for claim, target in (("fast", ">= 2"), ("slow", ">= 4"))
    )
    lines = run.table({"a": told([fast, slow]), "b": told([], failure="no | memory")}).splitlines()
    found = {line.split(" | ")[0]: line for line in lines if line.startswith("| ")}
    assert ">= 2, met" in found["| fast"]
    assert ">= 4, **missed**" in found["| slow"]
    assert "failed" in found["| b"] and "no \\| memory" in found["| b"]
    assert lines[-1] == "[1] abacus; python 3.11"


def test_a_benchmark_that_fails_or_hangs_gives_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.LIMITS, "nothing_of_this_name", 60)
    assert "nothing_of_this_name" in run.measured("nothing_of_this_name")["failure"]
    monkeypatch.setitem(run.LIMITS, "nothing_of_this_name", 0.01)
    assert run.measured("nothing_of_this_name")["failure"] == "not done within 0.01 s"
