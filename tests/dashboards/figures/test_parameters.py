from __future__ import annotations

import dataclasses

import polars as pl
import pytest

from dashboards import frames, palette, scores
from dashboards.figures import parameters
from dashboards.importance import CHANCE
from study.results import StudyResults


@pytest.fixture
def known(finished: StudyResults) -> pl.DataFrame:
    return scores.at_step(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", step=5)


def test_a_slice_shows_each_trial_once_with_its_error(known: pl.DataFrame) -> None:
    figure = parameters.slice_of(known, "fipo.half_life", measure="sums_select/avg@8")
    assert sorted(x for trace in figure.data for x in trace.x) == sorted(known["fipo.half_life"])
    assert sorted(e for trace in figure.data for e in trace.error_y.array) == sorted(known["error"])
    assert figure.layout.yaxis.title.text == "sums_select/avg@8"


def test_states_differ_by_shape_and_the_control_by_colour(known: pl.DataFrame) -> None:
    traces = {trace.name: trace.marker for trace in parameters.slice_of(known, "fipo.half_life", measure="m").data}
    assert traces["pruned"].symbol == palette.STATE_SYMBOLS["PRUNED"] != traces["complete"].symbol
    assert traces["control"].color == palette.foreground(False)


def test_a_rate_over_decades_has_a_log_axis_and_a_bound_has_not(known: pl.DataFrame) -> None:
    assert parameters.slice_of(known, "optimizer.learning_rate", measure="m").layout.xaxis.type == "log"
    assert parameters.slice_of(known, "fipo.epsilon_f_low", measure="m").layout.xaxis.type != "log"


def test_a_choice_with_null_shows_every_trial(finished: StudyResults) -> None:
    """On an axis that Plotly takes for numbers null has no place."""
    cap = "rollout.importance_cap"
    swept = [
        dataclasses.replace(trial, params=trial.params | {cap: (None, 2.0)[trial.number % 2]})
        for trial in finished.trials
    ]
    results = dataclasses.replace(finished, trials=tuple(swept))
    at = scores.at_step(frames.trials(results), frames.evaluations(results), set_name="sums_select", step=5)
    figure = parameters.slice_of(at, cap, measure="m")
    assert {x for trace in figure.data for x in trace.x} == {"null", "2"}
    assert (figure.layout.xaxis.type, figure.layout.xaxis.categoryarray) == ("category", ("2", "null"))


@pytest.mark.parametrize(("values", "ticks"), [([4, 8], (4, 8)), ([1, 64], (1, 64)), (list(range(20)), None)])
def test_a_choice_of_few_numbers_has_these_as_ticks(known: pl.DataFrame, values: list, ticks: tuple | None) -> None:
    sizes = pl.Series("rollout.group_size", [float(values[i % len(values)]) for i in range(known.height)])
    axis = parameters.slice_of(known.with_columns(sizes), "rollout.group_size", measure="m").layout.xaxis
    assert axis.tickvals == ticks
    assert axis.ticktext == (tuple(map(str, ticks)) if ticks else None)


def test_a_score_without_an_error_has_no_bar(known: pl.DataFrame) -> None:
    bare = known.with_columns(pl.lit(None, dtype=pl.Float64).alias("error"))
    assert all(trace.error_y.array is None for trace in parameters.slice_of(bare, "fipo.half_life", measure="m").data)


def test_hovering_tells_the_trial_its_score_and_its_settings_without_markup(known: pl.DataFrame) -> None:
    hostile = known.with_columns(pl.lit("<img src=x>").alias("label"))
    (first, *_) = parameters.hover(hostile)
    assert "<img" not in first and "±" in first and "learning rate" in first


def test_importances_put_the_largest_on_top_and_chance_last() -> None:
    rows = [(name, method, share) for method in ("fANOVA", "PED-ANOVA") for name, share in
            (("a", 0.2), ("b", 0.5), (CHANCE, 0.3))]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["parameter", "method", "importance"], orient="row")
    figure = parameters.importances(frame)
    assert list(figure.layout.yaxis.categoryarray) == [CHANCE, "a", "b"]
    assert [trace.name for trace in figure.data] == ["fANOVA", "PED-ANOVA"]


def test_importances_that_are_no_finding_are_pale() -> None:
    frame = pl.DataFrame([("a", "fANOVA", 0.2), (CHANCE, "fANOVA", 0.3)], orient="row",
                         schema=["parameter", "method", "importance"])  # fmt: skip
    (bars,), (pale,) = parameters.importances(frame).data, parameters.importances(frame, pale=True).data
    assert bars.opacity == 1 and pale.opacity < 0.5
