from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from dashboards import metrics, paper
from dashboards.figures.training import training_dynamics
from study.results import StudyResults


def figure(results: StudyResults, **options: object) -> go.Figure:
    training = metrics.training(results, [0, 1])
    return training_dynamics(training, warnings=metrics.early_warnings(training), **options)  # type: ignore[arg-type]


def test_every_recorded_quantity_is_a_panel_with_a_line_per_trial(finished: StudyResults) -> None:
    drawn = figure(finished)
    titles = {note.text for note in drawn.layout.annotations}
    assert titles == {each.title for each in metrics.QUANTITIES}
    assert sum(trace.meta is not None for trace in drawn.data) == 2 * len(metrics.QUANTITIES)


def test_a_trial_has_one_colour_in_all_panels(finished: StudyResults) -> None:
    for trial in (0, 1):
        assert len({trace.line.color for trace in figure(finished).data if trace.meta == trial}) == 1


def test_the_papers_curve_is_drawn_only_in_the_panels_of_its_metrics(finished: StudyResults) -> None:
    behind = paper.curves().filter(pl.col("name") == "32B futurekl_vanilla (Figure 2)")
    with_paper, without = figure(finished, paper=behind), figure(finished)
    in_panels = len(with_paper.data) - len(without.data) - 1  # one more stands in the legend
    assert in_panels == behind["metric"].n_unique() == 4
    assert "paper: 32B futurekl_vanilla (Figure 2)" in {trace.name for trace in with_paper.data}


def test_a_warning_is_a_line_at_its_step(finished: StudyResults) -> None:
    training = metrics.training(finished, [0])
    warnings = pl.DataFrame({"trial": [0], "label": ["#0"], "metric": ["policy_kl"], "step": [17]})
    shapes = training_dynamics(training, warnings=warnings).layout.shapes
    assert [shape.x0 for shape in shapes] == [17]
