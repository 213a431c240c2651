"""What a benchmark says: one row per claim, ours against a named peer or limit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One claim, measured. The ratio is what its target speaks of: a speed-up, or a share of the peer's."""

    claim: str
    against: str
    """The peer or the limit."""
    ours: float
    """Median over the runs, in `unit`."""
    peer: float
    """The same of the peer."""
    unit: str
    ratio: float
    """Of the two medians."""
    spread: tuple[float, float]
    """Lowest and highest ratio of a run of ours and the peer's beside it; the same number twice where there is one."""
    target: str
    """`>= 5` or `<= 0.5`, for the ratio; empty where there is none."""
    note: str = ""
    """What a reader of the number must know."""

    @property
    def met(self) -> bool | None:
        """Whether the target is; None without one."""
        if not self.target:
            return None
        sign, bound = self.target.split()
        return self.ratio >= float(bound) if sign == ">=" else self.ratio <= float(bound)


def compare(
    claim: str,
    against: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    unit: str,
    ratio: Literal["ours / peer", "peer / ours"],
    target: str = "",
    note: str = "",
) -> Row:
    """A row of runs that were made in turn, so that run n of ours and run n of the peer's lie side by side."""
    forward = ratio == "ours / peer"
    pairs = [(mine / theirs if forward else theirs / mine) for mine, theirs in zip(ours, peer, strict=True)]
    middle, other = statistics.median(ours), statistics.median(peer)
    return Row(
        claim=claim,
        against=against,
        ours=middle,
        peer=other,
        unit=unit,
        ratio=middle / other if forward else other / middle,
        spread=(min(pairs), max(pairs)),
        target=target,
        note=note,
    )


def show(rows: Sequence[Row]) -> None:
    """Print rows for a reader at a terminal."""
    for row in rows:
        low, high = row.spread
        verdict = {None: "", True: f", target {row.target}: met", False: f", target {row.target}: MISSED"}[row.met]
        print(
            f"{row.claim}: ours {row.ours:.4g} {row.unit}, {row.against} {row.peer:.4g} {row.unit},"
            f" ratio {row.ratio:.3g} ({low:.3g} to {high:.3g}){verdict}" + (f"\n    {row.note}" if row.note else ""),
            flush=True,
        )
