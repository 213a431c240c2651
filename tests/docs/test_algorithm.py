"""The page on the algorithm follows the code: its keys and its functions are those that there are."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.config import FipoConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "algorithm.md").read_text(encoding="utf-8")


def test_every_key_of_the_loss_is_explained() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    words = set(re.findall(r"\w+", " ".join(re.findall("`[^`]+`", prose))))
    assert set(FipoConfig.model_fields) - words == set()


def test_the_functions_that_it_names_are_there() -> None:
    named = re.findall(r"((?:`\w+`(?:, | and )?)+) in `(trainer/\w+\.py)`", PAGE)
    assert len(named) >= 5
    for names, path in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert all(f"def {name}(" in source for name in re.findall(r"\w+", names.replace(" and ", " "))), (names, path)
