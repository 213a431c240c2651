"""What a trial wrote at a training step, and its tokens as inert HTML coloured by influence weight. Pure functions."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from trainer.config import FipoConfig
from trainer.errors import UserError

if TYPE_CHECKING:
    from study.spec import StudySpec

BELOW, ABOVE = "0,114,178", "230,159,0"
"""RGB of weights under and over 1: blue and orange of Okabe and Ito."""
STRONGEST = 0.6
"""Opacity at the largest distance from 1; text stays readable on it in both themes."""


def steps(directory: Path) -> list[int]:
    """Training steps whose completions lie in the trial's `directory`, ascending."""
    found = (re.fullmatch(r"step-(\d+)\.parquet", path.name) for path in (directory / "completions").glob("step-*"))
    return sorted(int(match.group(1)) for match in found if match)


def read(directory: Path, step: int) -> pl.DataFrame:
    """One row per response, columns as of `trainer.completions.completions`. Raises UserError when unreadable."""
    path = directory / "completions" / f"step-{step:06d}.parquet"
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({first}); choose another step, or remove the file") from None


def tokens(response: dict[str, object]) -> pl.DataFrame:
    """The tokens of one row: position (from 1), token, influence_weight, log_ratio, in the response's order."""
    columns = {key: response[key] for key in ("influence_weight", "log_ratio")}
    frame = pl.DataFrame({"token": response["tokens"], **columns}, schema_overrides={"token": pl.String})
    return frame.with_row_index("position", offset=1)


def clip_range(spec: StudySpec) -> tuple[float, float]:
    """The lowest and highest influence weight that a trial of the study can have: 1 - and 1 + its largest epsilon_f.

    One scale for all trials, steps and responses of a study, so that equal colours are equal weights.
    """
    low, high = (_largest(spec, side) for side in ("epsilon_f_low", "epsilon_f_high"))
    return 1 - low, 1 + high


def _largest(spec: StudySpec, key: str) -> float:
    """Of a key of the trainer's `fipo` over its space or its fixed value, and the controls."""
    values = [each.values[f"fipo.{key}"] for each in spec.enqueue if f"fipo.{key}" in each.values]
    if f"fipo.{key}" in spec.space:
        values += spec.space[f"fipo.{key}"].ends()
    else:
        values.append(spec.trainer.get("fipo", {}).get(key, FipoConfig.model_fields[key].default))
    return max(float(value) for value in values if value is not None)


def coloured(tokens: pl.DataFrame, *, advantage: float, scale: tuple[float, float]) -> str:
    """HTML of the response: each token in a span, orange above 1, blue below, full at the far end of `scale`.

    Equal distances from 1 are equally strong, whichever end is farther (`clip_range`). The model's text is escaped,
    also inside the hover text; a line break shows as an arrow before it breaks.
    """
    spans, reach = [], _reach(scale)
    for token, weight, ratio in tokens.select("token", "influence_weight", "log_ratio").iter_rows():
        shown = html.escape(token, quote=True).replace("\n", "⏎\n")
        hover = f"f = {weight:.4f}\nadvantage {advantage:+.3f}, × f {weight * advantage:+.3f}\nlog-ratio {ratio:+.5f}"
        share = min(abs(weight - 1) / reach, 1.0) if reach and math.isfinite(weight) else 0.0
        shade = f"rgba({ABOVE if weight > 1 else BELOW},{STRONGEST * share:.2f})"
        spans.append(f'<span title="{html.escape(hover, quote=True)}" style="background:{shade}">{shown}</span>')
    style = "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.7;unicode-bidi:isolate"
    return f'<div style="{style}">{"".join(spans)}</div>'


def legend(scale: tuple[float, float]) -> str:
    """HTML of the colours from one end of the scale to the other, and of what the ends are."""
    low, high = scale
    below, above = (STRONGEST * abs(end - 1) / (_reach(scale) or 1) for end in scale)
    one = 100 * (1 - low) / ((high - low) or 1)
    shades = f"rgba({BELOW},{below:.2f}),transparent {one:.0f}%,rgba({ABOVE},{above:.2f})"
    bar = f'<span style="width:12rem;height:.9rem;background:linear-gradient(90deg,{shades})"></span>'
    style = "display:flex;align-items:center;gap:.6rem;font-size:.85rem"
    where = "the range that this study clips f to; 1, without colour, is DAPO"
    return f'<div style="{style}">influence weight f: {low:.3g} {bar} {high:.3g} ({where})</div>'


def _reach(scale: tuple[float, float]) -> float:
    return max(1 - scale[0], scale[1] - 1)
