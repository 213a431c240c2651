from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_models_say() -> None:
    """`make docs` writes it anew."""
    page = runpy.run_path(str(DOCS / "study_file.py"))["page"]()
    assert (DOCS / "study_file.md").read_text(encoding="utf-8") == page
