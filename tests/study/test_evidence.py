"""What is known of a configuration, and the ranking by it."""

from __future__ import annotations

import pytest

from study.evidence import Run, error_in_words, evidence, highest_of
from study.running import BY_HAND


def run(number: int, value: float | None, confirms: int | None = None, *, lost: str = "collapsed") -> Run:
    return Run(number, value, confirms, seed=number, lost=lost)


@pytest.mark.parametrize(
    ("runs", "ranking"),
    [
        ([run(0, 0.9), run(1, 0.7)], [0, 1]),
        # Chosen before the other by a single run of each; that its mean is lower than that single run is no news.
        ([run(0, 0.9), run(1, 0.7), run(2, 0.6, 0), run(3, 0.6, 0)], [0, 1]),
        # A control, which is confirmed though others were better.
        ([run(0, 0.1), run(1, 0.9), run(2, 0.7), run(3, 0.2, 0), run(4, 0.2, 0), run(5, 0.8, 1)], [1, 2, 0]),
        # One that is as good as the chosen, or better, over the same seeds: what it did alone is no news then.
        ([run(0, 0.1), run(1, 0.9), run(2, 0.8), run(3, 0.7, 0), run(4, 0.6, 1)], [0, 1, 2]),
        ([run(0, 0.1), run(1, 0.9), run(2, 0.8), run(3, 0.6, 0), run(4, 0.6, 1)], [0, 1, 2]),
        (
            [run(0, 0.1), run(1, 0.9), run(2, 0.85), run(3, 0.8), run(4, 0.6, 0), run(5, 0.7, 1), run(6, 0.5, 2)],
            [1, 0, 2, 3],
        ),
        # A seed that is lost counts 0: 0.53 is less than 0.7, and more than 0.5.
        ([run(0, 0.9), run(1, 0.7), run(2, 0.8, 0), run(3, 0.8, 0), run(4, None, 0)], [1, 0]),
        ([run(0, 0.9), run(1, 0.5), run(2, 0.8, 0), run(3, 0.8, 0), run(4, None, 0, lost="failed")], [0, 1]),
        ([run(0, 0.9), run(1, 0.7), run(2, 0.6, 0), run(3, 0.6, 0), run(4, None, 0, lost=BY_HAND)], [0, 1]),
        # Both were chosen: what was stopped by hand makes no 0.45 of the 0.9.
        ([run(0, 0.9), run(1, 0.8), run(2, 0.9, 0), run(3, None, 0, lost=BY_HAND), run(4, 0.8, 1)], [0, 1]),
        ([run(0, 0.9), run(1, 0.1), run(2, None, 0), run(3, None, 0)], [1, 0]),
        ([run(0, 0.9), run(1, 0.9), run(2, 0.6, 0), run(3, 0.6, 0)], [0, 1]),
        ([run(0, 0.1), run(1, 0.9), run(2, 0.9), run(3, 0.7, 0), run(4, 0.6, 1)], [0, 1, 2]),
        # 0.45 of which half was lost is behind 0.4 of which nothing was.
        ([run(0, 0.9), run(1, 0.8), run(2, 0.4, 0), run(3, 0.9, 1), run(4, None, 1)], [0, 1]),
        # That the first was once 0.9 keeps none back: all its seeds were lost.
        ([run(0, 0.9), run(1, 0.8), run(2, 0.6), run(3, None, 0), run(4, 0.5, 1)], [1, 2, 0]),
    ],
    ids=[
        "single runs",
        "chosen",
        "control",
        "control ahead",
        "control alike",
        "control between",
        "lost",
        "lost and better",
        "by hand",
        "by hand and chosen",
        "all lost",
        "equals, one chosen",
        "equals, one chosen, and a control",
        "all confirmed",
        "the highest lost",
    ],
)
def test_configurations_are_ranked_by_what_their_runs_are_worth(runs, ranking):
    assert [each.number for each in evidence(runs)] == ranking


@pytest.mark.parametrize(("error", "words"), [(0.0, "(all the same)"), (0.0004, "±<0.001"), (0.0126, "±0.013")])
def test_an_error_over_seeds_is_never_written_as_zero(error, words):
    assert error_in_words(error) == words


@pytest.mark.parametrize(
    ("runs", "means"),
    [
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0), run(3, 0.7, 1)], 2),
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0)], 0),
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0), run(3, 0.8, 1)], 0),
        # Ranked second for the seed that collapsed, and higher in those that did not.
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0), run(3, 0.95, 1), run(4, None, 1)], 0),
        ([run(0, 0.9), run(1, 0.8), run(2, 0.8, 0), run(3, None, 1)], 0),
        # First by its own run, for what was to confirm it was stopped by hand.
        (
            [
                *(run(0, 0.9), run(1, 0.8), run(2, 0.7), run(3, None, 0, lost=BY_HAND)),
                *(run(4, 0.8, 1), run(5, None, 1), run(6, 0.7, 2), run(7, None, 2)),
            ],
            0,
        ),
    ],
)
def test_of_how_many_means_the_first_is_the_highest(runs, means):
    found = evidence(runs)
    assert found[0].number == 0 and highest_of(found) == means


def test_a_confirmed_configuration_stays_before_one_that_only_equals_its_first_run():
    """Both were perfect once: that the other was not tried again makes it no better."""
    runs = [run(0, 1.0), run(1, 1.0), run(2, 0.9), run(3, 0.98, 0), run(4, 0.99, 0)]
    assert [each.number for each in evidence(runs)] == [0, 1, 2]
