from __future__ import annotations

import re
import runpy
from pathlib import Path

from trainer.data import load_problems

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_models_say() -> None:
    """`make docs` writes it anew."""
    page = runpy.run_path(str(DOCS / "study_file.py"))["page"]()
    assert (DOCS / "study_file.md").read_text(encoding="utf-8") == page


def test_the_example_of_a_problem_file_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"(?s)```jsonl\n(.*?)```", (DOCS / "study_file.md").read_text(encoding="utf-8"))
    (tmp_path / "mine.jsonl").write_text(example, encoding="utf-8")
    assert [each.answer for each in load_problems(str(tmp_path / "mine.jsonl"))] == ["23", "25"]
