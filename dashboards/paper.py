"""The paper's own curves (arXiv 2603.19835), digitised; see data/README.md for what was thinned and paired."""

from __future__ import annotations

import functools
from pathlib import Path

import polars as pl

DATA = Path(__file__).with_name("data")


@functools.cache
def length_accuracy() -> pl.DataFrame:
    """AIME 2024 avg@32 over mean response length at 32B: model, run (fipo, dapo), step, length (tokens), accuracy."""
    return pl.read_csv(DATA / "paper_length_accuracy.csv")


@functools.cache
def curves() -> pl.DataFrame:
    """Training curves: figure, model (32B, 7B), run, metric, step, value, and `name` as a reader would pick it."""
    frame = pl.read_csv(DATA / "paper_curves.csv", schema_overrides={"value": pl.Float64})
    return frame.with_columns(pl.format("{} {} (Figure {})", "model", "run", "figure").alias("name"))


def runs() -> list[str]:
    """Names of the paper's runs, figure by figure."""
    return curves().sort("figure", "run", maintain_order=True)["name"].unique(maintain_order=True).to_list()
