"""How a fraction between 0 and 1, or a difference of two, is written."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal


def per_cent(fraction: float, *, digits: int = 1) -> Decimal:
    """In per cent, with `digits` after the point. A half goes up, as browsers write it, on the terminal too: of 240
    responses every sixth count ends in one."""
    return Decimal(100 * fraction).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def decimal(fraction: float, *, digits: int = 3, signed: bool = False) -> str:
    """With `digits` after the point: 0.663, +0.013. Rounded as `per_cent` rounds it."""
    rounded = per_cent(fraction, digits=digits - 2).scaleb(-2)
    return f"{rounded:+f}" if signed else f"{rounded:f}"
