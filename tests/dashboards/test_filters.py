from __future__ import annotations

import itertools

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import filters, frames
from study.results import StudyResults
from study.space import Choice, Int, LogUniform, Uniform


def test_stops_of_a_bound_are_even_and_of_a_rate_even_in_its_logarithm() -> None:
    assert filters.stops(Uniform(type="uniform", low=0, high=0.5)) == pytest.approx([i / 20 for i in range(11)])
    rates = filters.stops(LogUniform(type="log-uniform", low=1e-5, high=1e-3))
    assert rates == pytest.approx([1e-5 * 100 ** (i / 10) for i in range(11)], rel=0.05)


def test_whole_numbers_stop_at_values_that_are_sampled() -> None:
    assert filters.stops(Int(type="int", low=1, high=7, step=2)) == [1, 3, 5, 7]
    many = filters.stops(Int(type="int", low=0, high=100))
    assert len(many) <= 12 and many[0] == 0 and many[-1] == 100


def test_a_choice_has_no_range() -> None:
    assert filters.stops(Choice(type="choice", values=(True, False))) == []


@given(low=st.floats(1e-6, 1e3), ratio=st.floats(1.001, 1e6))
def test_stops_ascend_from_one_end_to_the_other(low: float, ratio: float) -> None:
    ends = {"low": low, "high": low * ratio}
    for space in (LogUniform(type="log-uniform", **ends), Uniform(type="uniform", **ends)):
        values = filters.stops(space)
        assert values[0] == low and values[-1] == low * ratio
        assert all(a < b for a, b in itertools.pairwise(values))


def test_a_range_removes_what_lies_outside_but_no_control(finished: StudyResults) -> None:
    trials = frames.trials(finished)
    low, high = 0.2, 0.3
    left = filters.kept(trials, bounds={"fipo.epsilon_f_high": (low, high)})
    inside = trials.filter(pl.col("fipo.epsilon_f_high").is_between(low, high))["trial"].to_list()
    assert left == sorted({0, *inside})
    assert 0 < len(inside) < trials.height


def test_states_and_ranges_are_met_together(finished: StudyResults) -> None:
    trials = frames.trials(finished)
    left = filters.kept(trials, states=["PRUNED"], bounds={"fipo.epsilon_f_low": (0.0, 0.4)})
    assert left == trials.filter(pl.col("state") == "PRUNED")["trial"].to_list()
    assert filters.kept(trials) == trials["trial"].to_list()
    assert filters.kept(trials, states=["WAITING"]) == []


def test_a_trial_without_the_parameter_is_in_no_range(finished: StudyResults) -> None:
    trials = frames.trials(finished).with_columns(pl.lit(None, dtype=pl.Float64).alias("reward.overlong_penalty"))
    assert filters.kept(trials, bounds={"reward.overlong_penalty": (0.0, 1.0)}) == [0]
