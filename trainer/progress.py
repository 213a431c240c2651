"""How slow work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the fraction done, 0 to 1, and what is being done."""
