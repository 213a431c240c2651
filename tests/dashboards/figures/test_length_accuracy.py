from __future__ import annotations

import dataclasses

import plotly.graph_objects as go
import polars as pl
import pytest

from dashboards import frames, palette
from dashboards.figures.length_accuracy import length_accuracy
from study.results import StudyResults


def points(results: StudyResults, **options: object) -> pl.DataFrame:
    return frames.curves(frames.trials(results), frames.evaluations(results), set_name="sums_select", **options)  # type: ignore[arg-type]


def drawn(figure: go.Figure) -> dict[int, go.Scatter]:
    """The curves by trial number, without the legend's and the colour bar's empty traces."""
    return {trace.meta: trace for trace in figure.data if trace.meta is not None}


def test_every_trial_is_one_curve_with_its_points_and_errors(finished: StudyResults) -> None:
    frame = points(finished, colour="fipo.half_life")
    curves = drawn(length_accuracy(frame, colour="fipo.half_life"))
    assert set(curves) == {trial.number for trial in finished.trials}
    own = frame.filter(pl.col("trial") == 4)
    assert list(curves[4].x) == own["length"].to_list()
    assert list(curves[4].y) == own["accuracy"].to_list()
    assert list(curves[4].error_y.array) == own["error"].to_list()


def test_only_the_newest_point_carries_the_shape_of_the_state(finished: StudyResults) -> None:
    for number, trace in drawn(length_accuracy(points(finished), colour=None)).items():
        *before, last = trace.marker.symbol
        assert last == palette.STATE_SYMBOLS[finished.trials[number].state]
        assert set(before) <= {"circle"}


def test_pruned_trials_are_crosses_and_explained_in_the_legend(finished: StudyResults) -> None:
    figure = length_accuracy(points(finished, colour="fipo.gamma"), colour="fipo.gamma")
    names = {trace.name: trace for trace in figure.data if trace.meta is None}
    assert any(trial.state == "PRUNED" for trial in finished.trials)
    assert names["pruned"].marker.symbol == "x"


def test_the_control_and_the_best_trial_are_named_on_the_chart(finished: StudyResults) -> None:
    assert finished.best is not None
    figure = length_accuracy(points(finished), colour=None, best=finished.best.number)
    assert {note.text for note in figure.layout.annotations} == {"<b>DAPO</b>", f"<b>#{finished.best.number}</b> best"}


def test_equal_values_have_equal_colours_and_the_bar_spans_the_values(finished: StudyResults) -> None:
    key = "optimizer.learning_rate"
    frame = points(finished, colour=key)
    figure = length_accuracy(frame, colour=key)
    bar = next(trace.marker for trace in figure.data if trace.marker.showscale)
    scale = palette.scale(frame["colour"].to_list(), dark=False)
    assert scale is not None and scale.log
    assert (bar.cmin, bar.cmax) == pytest.approx(scale.bounds)
    for number, trace in drawn(figure).items():
        if finished.trials[number].control is None:
            assert trace.line.color == scale.colour(finished.trials[number].params[key])


def test_each_control_has_dashes_of_its_own_and_the_legend_says_whose_they_are(finished: StudyResults) -> None:
    results = dataclasses.replace(
        finished,
        trials=(
            finished.trials[0],
            dataclasses.replace(finished.trials[1], control="FIPO"),
            *finished.trials[2:],
        ),
    )
    figure = length_accuracy(points(results), colour=None)
    told = {trace.name: trace.line.dash for trace in figure.data if trace.meta is None}
    curves = drawn(figure)
    assert told["control DAPO"] == curves[0].line.dash != curves[1].line.dash == told["control FIPO"]
    assert {curve.line.dash for number, curve in curves.items() if number > 1} == {"solid"}


def test_what_confirms_a_control_is_drawn_as_the_control_is_and_has_no_name(finished: StudyResults) -> None:
    again = dataclasses.replace(finished.trials[1], confirms=0)
    results = dataclasses.replace(finished, trials=(finished.trials[0], again, *finished.trials[2:]))
    figure = length_accuracy(points(results), colour=None)
    curves = drawn(figure)
    assert curves[1].line.color == curves[0].line.color != curves[2].line.color
    assert curves[1].line.dash == curves[0].line.dash != curves[2].line.dash == "solid"
    assert [note.text for note in figure.layout.annotations] == ["<b>DAPO</b>"]
    alone = drawn(length_accuracy(points(results).filter(pl.col("trial") == 1), colour=None))[1]
    assert alone.line.color == curves[0].line.color and alone.line.dash != "solid"


def test_text_values_get_a_colour_and_a_legend_entry_each(finished: StudyResults) -> None:
    frame = points(finished).with_columns(
        pl.when(pl.col("trial") < 6).then(pl.lit("yes")).otherwise(pl.lit("no")).alias("colour")
    )
    figure = length_accuracy(frame, colour="fipo.filtering")
    names = {trace.name for trace in figure.data if trace.meta is None}
    assert {"fipo.filtering yes", "fipo.filtering no"} <= names
    assert len({trace.line.color for number, trace in drawn(figure).items() if number > 0}) == 2


def test_a_parameter_with_one_value_still_draws(finished: StudyResults) -> None:
    frame = points(finished).with_columns(pl.lit(0.2).alias("colour"))
    assert len(drawn(length_accuracy(frame, colour="fipo.epsilon_f_low"))) == len(finished.trials)


def test_axes_say_their_quantity_and_unit(finished: StudyResults) -> None:
    layout = length_accuracy(points(finished, length="median"), colour=None, length="median").layout
    assert layout.xaxis.title.text == "median response length (tokens)"
    assert layout.yaxis.title.text == "accuracy, avg@8"


def test_no_trace_needs_webgl(finished: StudyResults) -> None:
    figure = length_accuracy(points(finished, colour="fipo.gamma"), colour="fipo.gamma")
    assert {trace.type for trace in figure.data} == {"scatter"}


def test_markup_in_a_control_name_is_inert(finished: StudyResults) -> None:
    frame = points(finished).with_columns(
        pl.lit("<a href='http://x'>DAPO</a>").alias("control"), pl.lit("<b>x</b>").alias("label")
    )
    figure = length_accuracy(frame, colour=None)
    shown = [note.text for note in figure.layout.annotations] + [
        trace.hovertemplate for trace in drawn(figure).values()
    ]
    assert shown and not any("<a " in each or "<b>x" in each for each in shown)


def test_points_of_fewer_responses_are_hollow_and_say_their_k(raced: StudyResults) -> None:
    figure = length_accuracy(points(raced), colour=None)
    assert list(drawn(figure)[1].marker.symbol) == ["circle", "circle", "x-open"]
    assert [row[5] for row in drawn(figure)[1].customdata] == ["8 responses"] * 2 + ["2 responses, k = 2 of 8"]
    assert "hollow: k = 2 of 8" in {trace.name for trace in figure.data}
    ends = points(raced).filter(pl.col("trial") == 1, pl.col("last"))
    (alone,) = [trace for trace in length_accuracy(ends.clear(), ends=ends, colour=None).data if trace.name == "ends"]
    assert list(alone.marker.symbol) == ["x-open"]
