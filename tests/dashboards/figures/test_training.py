from __future__ import annotations

import plotly.graph_objects as go
import polars as pl
import pytest

from dashboards import frames, metrics, paper
from dashboards.collapse_signs import SIGNS_SCHEMA
from dashboards.figures import training as figures
from study.results import StudyResults

KL = next(each for each in metrics.QUANTITIES if each.metric == "policy_kl")
VANILLA = "32B futurekl_vanilla (Figure 2)"


@pytest.fixture
def training(finished: StudyResults) -> pl.DataFrame:
    return metrics.training(finished, [1, 2])


def panel(training: pl.DataFrame, quantity: metrics.Quantity = KL, **options: object) -> go.Figure:
    return figures.panel(quantity, training, colours=figures.colours(training), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("quantity", metrics.QUANTITIES, ids=lambda each: each.metric)
def test_every_recorded_quantity_has_a_line_per_trial_and_says_its_unit(
    training: pl.DataFrame, quantity: metrics.Quantity
) -> None:
    figure = panel(training, quantity)
    assert [trace.meta for trace in figure.data] == [1, 2]
    for trace in figure.data:
        own = training.filter((pl.col("trial") == trace.meta) & (pl.col("metric") == quantity.metric))
        assert list(trace.y) == own["value"].to_list()
    assert quantity.title in figure.layout.title.text
    assert figure.layout.xaxis.title.text == "training step"


def test_a_trial_has_one_colour_in_all_panels(training: pl.DataFrame) -> None:
    drawn = [panel(training, quantity) for quantity in metrics.QUANTITIES]
    assert len({tuple(trace.line.color for trace in figure.data) for figure in drawn}) == 1


def test_what_was_smoothed_stays_visible_behind(training: pl.DataFrame) -> None:
    faint, line = panel(metrics.smoothed(training, 5), raw=training).data[::2]
    assert list(faint.y) != list(line.y)
    assert faint.opacity < line.opacity and faint.hoverinfo == "skip"


def test_the_papers_curve_is_drawn_only_in_the_panels_of_its_metrics(training: pl.DataFrame) -> None:
    behind = paper.curves().filter(pl.col("name") == VANILLA)
    drawn = {each.metric: len(panel(training, each, paper=behind).data) for each in metrics.QUANTITIES}
    with_paper = {metric for metric, traces in drawn.items() if traces == 3}
    assert with_paper == set(behind["metric"])
    assert set(drawn.values()) == {2, 3}


def test_the_papers_curves_have_axes_of_their_own_unless_they_share_ours(training: pl.DataFrame) -> None:
    behind = paper.curves().filter(pl.col("name") == VANILLA)
    assert panel(training, paper=behind).data[0].yaxis == "y2"
    assert panel(training, paper=behind, own_axes=False).data[0].yaxis is None


def test_a_point_at_the_edge_is_drawn_whole(training: pl.DataFrame) -> None:
    single = training.filter(pl.col("step") == pl.col("step").max())
    assert [(trace.mode, trace.cliponaxis) for trace in panel(single).data] == [("markers", False)] * 2


def test_a_sign_is_a_line_at_its_step_in_its_own_panel_only(training: pl.DataFrame) -> None:
    signs = pl.DataFrame([(1, "#1", "policy_kl", 17, 4.0)], schema=SIGNS_SCHEMA, orient="row")
    assert [shape.x0 for shape in panel(training, signs=signs).layout.shapes] == [17]
    others = [each for each in metrics.QUANTITIES if each != KL]
    assert not any(panel(training, each, signs=signs).layout.shapes for each in others)


def test_a_constant_fraction_of_zero_shows_nothing_below_zero(training: pl.DataFrame) -> None:
    flat = training.with_columns(pl.lit(0.0).alias("value"))
    assert panel(flat).layout.yaxis.range == (0, 1)


def test_markup_in_a_name_is_inert(training: pl.DataFrame) -> None:
    hostile = training.with_columns(pl.lit("<img src=x onerror=alert(1)>").alias("label"))
    colours = figures.colours(hostile)
    assert "<img" not in figures.legend(hostile, colours, {}, signs=False, dark=False)
    assert "<img" not in str(panel(hostile).to_dict())


def test_the_legend_names_trials_and_the_papers_runs(training: pl.DataFrame) -> None:
    behind = paper.curves().filter(pl.col("name") == VANILLA)
    shown = figures.legend(training, figures.colours(training), figures.dashes(behind), signs=True, dark=False)
    assert "sign of a collapse" in shown
    assert all(name in shown for name in ("#1", "#2", f"paper: {VANILLA}"))


def test_fewer_responses_than_planned_are_hollow_in_the_panel_of_the_average_only(raced: StudyResults) -> None:
    own = metrics.training(raced, [0, 1])
    few = frames.evaluations(raced).filter(frames.FEW)
    average, majority = metrics.GROUPS["Accuracy"][:2]
    hollow = panel(own, average, few=few).data[-1]
    assert (list(hollow.x), list(hollow.text), hollow.marker.symbol) == ([10], ["k = 2 of 8"], "circle-open")
    assert hollow.cliponaxis is False
    assert len(panel(own, majority, few=few).data) == 2
    assert "hollow: k = 2 of 8" in figures.legend(own, figures.colours(own), {}, signs=False, dark=False,
                                                  few=frames.k_in_words(few))  # fmt: skip
