"""The complete configurations of trials, read from `config.yaml` as dotted keys, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from dashboards import text
from study.spec import flat

if TYPE_CHECKING:
    from study.results import TrialResult


def read(trial: TrialResult) -> dict[str, Any]:
    """Dotted key to value of everything that the trial was configured with; its sampled values while that is all."""
    try:
        config = yaml.safe_load((trial.directory / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return dict(trial.params)
    return flat(config) if isinstance(config, dict) else dict(trial.params)


def differing(configs: Mapping[str, Mapping[str, Any]], *, first: list[str]) -> pl.DataFrame:
    """Column parameter, then one per trial (the keys of `configs`) with values as text: only what is not equal in all.

    Args:
        first: keys that come first, in this order; the rest follows by name.
    """
    keys = {key for config in configs.values() for key in config}
    order = [key for key in first if key in keys] + sorted(keys - set(first))
    rows = []
    for key in order:
        shown = {name: _shown(config[key]) if key in config else "" for name, config in configs.items()}
        if len(set(shown.values())) > 1:
            rows.append({"parameter": text.label(key), **shown})
    return pl.DataFrame(rows, schema={"parameter": pl.String} | dict.fromkeys(configs, pl.String))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return json.dumps(value)
    return "none" if value is None else text.number(value)
