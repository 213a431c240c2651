from __future__ import annotations

import pytest

from dashboards import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(32.0, "32"), (0.3, "0.3"), (0.978572, "0.979"), (1.5e-4, "1.5e-4"), (20480, "20,480"), (0.0, "0"), (None, "-"),
     (True, "True"), ("token-mean", "token-mean")],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value: object, shown: str) -> None:
    assert text.number(value) == shown


@pytest.mark.parametrize(("fraction", "shown"), [(0.0125, "1.3"), (0.9125, "91.3"), (0.0235, "2.4"), (-0.0125, "-1.3")])
def test_a_half_goes_up_as_in_the_browsers_tables(fraction: float, shown: str) -> None:
    assert text.points(fraction) == shown
    assert text.points(fraction, signed=True) == (shown if fraction < 0 else f"+{shown}")


def test_accuracy_is_per_cent_with_its_error() -> None:
    assert text.accuracy(0.9125, 0.0214) == "91.3 ± 2.1 %"
    assert text.accuracy(0.9125) == "91.3 %"
    assert text.accuracy(None) == "-"


def test_a_probability_is_never_zero() -> None:
    assert text.probability(1e-12) == "p < 0.001"
    assert text.probability(0.0312) == "p = 0.031"


def spaced(shown: str | None) -> str:
    return (shown or "").replace("\N{NO-BREAK SPACE}", " ")


def row(sampling: float | None, problems: float | None, accuracy: float = 0.5) -> dict[str, float | None]:
    return {"sampling_error": sampling, "problem_error": problems, "accuracy": accuracy, "problems": 30, "samples": 8}


def test_an_error_that_cannot_be_estimated_is_left_out() -> None:
    assert spaced(text.errors(row(0.021, 0.044))) == "± 2.1 sampling, ± 4.4 problems"
    assert spaced(text.errors(row(None, 0.044))) == "± 4.4 problems"
    assert text.errors(row(None, None)) is None
    assert spaced(text.errors(row(0.02, 0.0))) == "± 2.0 sampling"  # all problems by chance at one rate


def test_an_error_is_never_zero() -> None:
    both = "sampling ≥ 98.5 %, problems ≥ 88.4 % (95 % sure)"
    assert spaced(text.errors(row(0.0, 0.0, accuracy=1.0))) == both
    assert spaced(text.errors(row(0.0, 0.02, accuracy=0.9))) == "± 2.0 problems, sampling 88.5 to 91.4 % (95 % sure)"
    assert text.accuracy(1.0, 0.0, problems=30, samples=8) == "100.0 % (≥ 98.5 %, 95 % sure)"
    assert text.accuracy(1.0, 0.0) == "100.0 %"


def test_errors_break_only_between_the_two() -> None:
    assert str(text.errors(row(0.021, 0.044))).split(" ")[1:] == ["±\N{NO-BREAK SPACE}4.4\N{NO-BREAK SPACE}problems"]


@pytest.mark.parametrize(
    "hostile",
    ["<img src=x onerror=alert(1)>", "[x](http://x)", "![x](http://x)", "$x$", ":material/home:", "# x", "`x`"],
)
def test_markdown_is_escaped_character_by_character(hostile: str) -> None:
    escaped = text.in_markdown(hostile).replace("\N{WORD JOINER}", "")
    assert escaped.replace("\\", "") == hostile
    for special in "<>[]()!$:`#":
        assert escaped.count("\\" + special) == hostile.count(special)


@pytest.mark.parametrize("address", ["http://example.org", "HTTPS://example.org", "www.example.org", "a@example.org"])
def test_a_bare_address_is_broken_since_markdown_links_it_after_its_escapes(address: str) -> None:
    shown = text.in_markdown(address).replace("\\", "")
    assert shown != address and shown.replace("\N{WORD JOINER}", "") == address


def test_a_metric_is_no_address() -> None:
    assert text.in_markdown("avg@8").replace("\\", "") == "avg@8"


def test_plotly_markup_is_escaped() -> None:
    assert text.in_plotly("<b>&</b>") == "&lt;b&gt;&amp;&lt;/b&gt;"
