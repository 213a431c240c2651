"""What a length-accuracy chart draws of a large study: as many curves and points as an eye and a browser take in."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

MOST_CURVES, MOST_POINTS = 40, 600


@dataclass(frozen=True)
class Thinned:
    """Points of `frames.curves`, parted into those drawn as curves and those drawn as single ends."""

    curves: pl.DataFrame
    ends: pl.DataFrame
    """The newest point of every other trial."""
    every: int
    """Each which evaluation of a curve is drawn, counted back from its newest; 1 is all."""

    @property
    def sentence(self) -> str:
        """What is left out, for the reader; empty when nothing is."""
        parts = []
        if self.ends.height and self.curves["last"].all():
            parts.append("Error bars are drawn for the best trial and the controls; choose fewer trials to see theirs.")
        elif self.ends.height:
            shown = self.curves["trial"].n_unique()
            parts.append(
                f"{shown} of {shown + self.ends.height} trials are drawn as curves: the best, the controls, the running"
                " and the rest evenly from best to worst; the others show their newest point. Choose trials to see"
                " their curves."
            )
        if self.every > 1:
            parts.append(f"One evaluation in {self.every} is drawn; the newest always is.")
        return " ".join(parts)


def ends_only(ends: pl.DataFrame, *, best: int | None = None, most_bars: int = MOST_CURVES) -> Thinned:
    """Newest points alone: all of them with error bars, or of more than `most_bars` the best and the controls."""
    if ends.height <= most_bars:
        return Thinned(ends, ends.clear(), 1)
    named = (pl.col("trial") == (-1 if best is None else best)) | pl.col("control").is_not_null()
    return Thinned(ends.filter(named), ends.filter(~named), 1)


def thin(
    curves: pl.DataFrame, *, best: int | None = None, most_curves: int = MOST_CURVES, most_points: int = MOST_POINTS
) -> Thinned:
    """At most `most_curves` trials with about `most_points` points between them; the other trials' newest points.

    Named trials (`best`, controls) come first, then running ones, then trials at even distances in the order of their
    newest accuracy, so that what is drawn has the spread of the whole study.
    """
    ends = curves.filter(pl.col("last")).sort("accuracy", "trial", descending=[True, False])
    if ends.height > most_curves:
        named = ends.filter((pl.col("trial") == (-1 if best is None else best)) | pl.col("control").is_not_null())
        running = ends.filter(pl.col("state") == "RUNNING")
        first = pl.concat([named["trial"], running["trial"]]).unique(maintain_order=True).head(most_curves).to_list()
        rest = ends.filter(~pl.col("trial").is_in(first))["trial"]
        room = most_curves - len(first)
        spread = [rest[round(i * (rest.len() - 1) / max(room - 1, 1))] for i in range(room)]
        chosen = {*first, *spread}
        curves, ends = curves.filter(pl.col("trial").is_in(chosen)), ends.filter(~pl.col("trial").is_in(chosen))
    else:
        ends = ends.clear()
    every = max(1, -(-curves.height // most_points))
    if every > 1:
        backwards = pl.int_range(pl.len()).reverse().over("trial")
        curves = curves.filter((backwards % every == 0) | (backwards == pl.len().over("trial") - 1))
    return Thinned(curves, ends.sort("trial"), every)
