"""The paper's recipes as trainer configs, by the model they were run on."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from trainer.errors import UserError


def preset_names() -> list[str]:
    """The presets there are."""
    return sorted(each.name.removesuffix(".yaml") for each in files(__name__).iterdir() if each.name.endswith(".yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The preset as data for TrainerConfig. Raises UserError for an unknown name."""
    if name not in preset_names():
        raise UserError(f"preset = {name!r}: no such preset; known: {', '.join(preset_names())}; choose one")
    return yaml.safe_load((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
