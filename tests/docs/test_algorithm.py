"""The page on the algorithm follows the code: its keys and its functions are those that there are."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.config import INFLUENCE, FipoConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "algorithm.md").read_text(encoding="utf-8")


def test_every_key_of_the_loss_is_explained() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    words = set(re.findall(r"\w+", " ".join(re.findall("`[^`]+`", prose))))
    assert set(FipoConfig.model_fields) - words == set()


def test_what_decides_the_influence_weights_is_named_where_a_fair_comparison_is_explained() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    told = page.split("search only what decides the influence", 1)[1].split(")", 1)[0]
    parts = {name.removesuffix("_low").removesuffix("_high") for name in INFLUENCE}
    assert parts <= {each.removeprefix("fipo.") for each in re.findall(r"[\w.]+", told)}
    assert "the two `epsilon_f`" in told


def test_the_functions_that_it_names_are_there() -> None:
    named = re.findall(r"((?:`\w+`(?:, | and )?)+) in `(trainer/\w+\.py)`", PAGE)
    assert len(named) >= 5
    for names, path in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert all(f"def {name}(" in source for name in re.findall(r"\w+", names.replace(" and ", " "))), (names, path)
