"""What a trial wrote at a training step, and its tokens as inert HTML coloured by influence weight. Pure functions."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

import polars as pl

from trainer.errors import UserError

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


def reach(tokens: pl.DataFrame) -> float:
    """The largest distance of a finite influence weight from 1 in one response; 0 without tokens."""
    weights = tokens["influence_weight"]
    return float((weights.filter(weights.is_finite()) - 1).abs().max() or 0.0)


def coloured(tokens: pl.DataFrame, *, advantage: float, reach: float) -> str:
    """HTML of the response: each token in a span, orange above 1, blue below, full at a distance of `reach`.

    The model's text is escaped, also inside the hover text; a line break shows as an arrow before it breaks.
    """
    spans = []
    for token, weight, ratio in tokens.select("token", "influence_weight", "log_ratio").iter_rows():
        shown = html.escape(token, quote=True).replace("\n", "⏎\n")
        hover = f"f = {weight:.4f}\nadvantage {advantage:+.3f}, × f {weight * advantage:+.3f}\nlog-ratio {ratio:+.5f}"
        share = min(abs(weight - 1) / reach, 1.0) if reach and math.isfinite(weight) else 0.0
        shade = f"rgba({ABOVE if weight > 1 else BELOW},{STRONGEST * share:.2f})"
        spans.append(f'<span title="{html.escape(hover, quote=True)}" style="background:{shade}">{shown}</span>')
    style = "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.7;unicode-bidi:isolate"
    return f'<div style="{style}">{"".join(spans)}</div>'


def legend(reach: float) -> str:
    """HTML of the colour scale from 1 - reach to 1 + reach."""
    shades = f"rgba({BELOW},{STRONGEST}),transparent,rgba({ABOVE},{STRONGEST})"
    bar = f'<span style="width:12rem;height:.9rem;background:linear-gradient(90deg,{shades})"></span>'
    style = "display:flex;align-items:center;gap:.6rem;font-size:.85rem"
    return f'<div style="{style}">influence weight f: {1 - reach:.4f} {bar} {1 + reach:.4f}</div>'
