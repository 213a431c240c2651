"""Axes of accuracy: 0 to 100 %, and never so narrow that noise fills them or that two ticks say the same."""

from __future__ import annotations

from typing import Any

import polars as pl

from dashboards import palette

ROOM = 0.02
"""Beyond 0 and 1, for the half of a point that lies on an end."""


def accuracy(values: pl.Series) -> dict[str, Any]:
    """Layout of an axis that holds `values`, fractions; Plotly still finds its range, between these bounds."""
    include = palette.least_span(float(values.min() or 0.0), float(values.max() or 0.0))
    bounds = {"clipmin": -ROOM, "clipmax": 1 + ROOM, "include": list(include)}
    return {"tickformat": ".0%", "zeroline": False, "autorangeoptions": bounds}


def digits(low: float, high: float) -> str:
    """How ticks between two fractions are written: narrow ones would repeat whole per cents."""
    return ".0%" if high - low >= palette.LEAST_SPAN / 2 else ".1%"
