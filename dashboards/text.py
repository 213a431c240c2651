"""Names and numbers as a reader sees them; and text that others wrote, made inert."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from trainer import saturation
from trainer.digits import per_cent

LABELS = {
    "fipo.half_life": "half-life τ (tokens)",
    "fipo.gamma": "discount γ",
    "fipo.epsilon_f_low": "ε_f low",
    "fipo.epsilon_f_high": "ε_f high",
    "optimizer.learning_rate": "learning rate",
    "label": "trial",
}


def label(key: str) -> str:
    """What a parameter is called on screen: its symbol and unit where the paper has one, else its dotted key."""
    return LABELS.get(key, key)


def widget_label(key: str) -> str:
    """The label for a widget, which reads Markdown: our own names as they are, for screen readers say every escape."""
    return LABELS.get(key) or in_markdown(key)


def column(key: str) -> str:
    """The head of a narrow column: the name without its unit, of a dotted key its last part."""
    return label(key).split(" (")[0].split(".")[-1]


def number(value: object) -> str:
    """Three significant digits: 0.3 -> 0.3, 0.00015 -> 1.5e-4, 32.0 -> 32, 20480.0 -> 20,480."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def setting(value: object) -> str:
    """The value of a swept key: a number as `number` has it, and as YAML writes it where it is none."""
    return "null" if value is None else number(value)


def in_order(settings: Iterable[str]) -> list[str]:
    """What `setting` made, each once: numbers by their size, then words as null."""

    def rank(name: str) -> tuple[bool, float, str]:
        try:
            return False, float(name.replace(",", "")), name
        except ValueError:
            return True, 0.0, name

    return sorted(set(settings), key=rank)


def probability(p: float) -> str:
    """A p value for a sentence: p = 0.03, or p < 0.001."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def points(fraction: float, *, signed: bool = False) -> str:
    """A fraction in per cent or points with one digit."""
    rounded = per_cent(fraction)
    return f"{rounded:+}" if signed else str(rounded)


def accuracy(value: float | None, error: float | None = None, *, problems: int = 0, samples: int = 0) -> str:
    """A fraction 0..1 as per cent, with one standard error when there is one: 0.912, 0.021 -> 91.2 ± 2.1 %.

    An error of 0 is none: there it is the interval that `problems` x `samples` responses without spread leave.
    """
    if value is None:
        return "-"
    if error == 0:
        known = f" ({saturation.in_words(value, problems=problems, samples=samples)}, 95 % sure)" if problems else ""
        return f"{points(value)} %{known}"
    return f"{points(value)} %" if error is None else f"{points(value)} ± {points(error)} %"


def errors(row: Mapping[str, Any]) -> str | None:
    """Both standard errors of an evaluation in points, leaving out what one sample or one problem cannot tell.

    For want of one that is 0 it is the interval of the accuracy, see `saturation`.

    Args:
        row: with columns of `frames.EVALUATION_SCHEMA`.
    """
    parts = [(row["sampling_error"], row["samples"], "sampling"), (row["problem_error"], 1, "problems")]
    known = [f"± {points(error)} {name}" for error, _, name in parts if error]
    bounds = [
        f"{name} {saturation.in_words(row['accuracy'], problems=row['problems'], samples=samples)}"
        for error, samples, name in parts
        if error == 0 and (samples > 1 or row["accuracy"] in (0, 1))
    ]
    # No-break spaces: a narrow card breaks the line between the parts.
    said = ", ".join(each.replace(" ", "\N{NO-BREAK SPACE}") for each in [*known, *bounds])
    return (said + (" (95\N{NO-BREAK SPACE}% sure)" if bounds else "")) or None


def in_plotly(text: str) -> str:
    """Escape text for Plotly, which reads a subset of HTML (b, i, a, br ...) in every label and hover."""
    return html.escape(text, quote=False)


def in_markdown(text: str) -> str:
    """Escape text for Streamlit's Markdown, where links, images, HTML, $math$ and :directives: would be live.

    Bare addresses (http://, www., name@host) become links after escapes are resolved, so an invisible word joiner
    breaks them.
    """
    broken = re.sub(r"(?i)(:(?=//)|www(?=\.)|@(?=[\w-]+\.))", "\\1\N{WORD JOINER}", " ".join(text.split()))
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$:~^&@])", r"\\\1", broken)
