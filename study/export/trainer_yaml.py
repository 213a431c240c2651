"""This trainer: the complete config as YAML, for `fipo train`."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from study.export.recipe import Recipe
from study.export.script import comments


def render(recipe: Recipe, header: Iterable[str]) -> str:
    """A TrainerConfig as YAML below its comments; it reads back equal."""
    text = yaml.safe_dump(recipe.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return comments([*header, "", f"Train it again: {recipe.command} THIS_FILE"]) + text
