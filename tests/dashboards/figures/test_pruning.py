from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from dashboards import frames, palette
from dashboards.figures.pruning import intermediate_values, timeline
from study.results import StudyResults


def test_a_pruned_curve_ends_in_a_cross_at_the_step_of_its_pruning(finished: StudyResults) -> None:
    points = frames.curves(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", error=None)
    drawn = {trace.meta: trace for trace in intermediate_values(points).data}
    pruned = [trial for trial in finished.trials if trial.state == "PRUNED"]
    assert pruned
    for trial in pruned:
        assert drawn[trial.number].x[-1] == trial.pruned_at
        assert drawn[trial.number].marker.symbol[-1] == palette.STATE_SYMBOLS["PRUNED"]


def test_each_state_is_named_once_in_the_legend(finished: StudyResults) -> None:
    points = frames.curves(frames.trials(finished), frames.evaluations(finished), set_name="sums_select", error=None)
    named = [trace.name for trace in intermediate_values(points).data if trace.showlegend]
    assert sorted(named) == sorted({trial.state.lower() for trial in finished.trials})


def test_every_trial_that_began_has_a_bar_as_long_as_it_ran(finished: StudyResults) -> None:
    trials = frames.trials(finished)
    traces = timeline(trials, now=datetime.now()).data
    bars = {label: length for trace in traces for label, length in zip(trace.text, trace.x, strict=True)}
    assert set(bars) == set(trials["label"])
    for label, seconds in trials.select("label", "seconds").iter_rows():
        assert abs(bars[label] - 1000 * seconds) <= 1


def test_a_running_trial_reaches_to_now() -> None:
    started = datetime(2026, 1, 1, 12)
    row = {"trial": 0, "label": "#0", "state": "RUNNING", "started": started}
    trials = pl.DataFrame([row], schema=frames.TRIAL_SCHEMA)
    (trace,) = timeline(trials, now=started + timedelta(seconds=90)).data
    assert list(trace.x) == [90_000]


def test_there_are_as_many_lanes_as_trials_ran_at_once() -> None:
    noon = datetime(2026, 1, 1, 12)
    spans = [(0, 10), (0, 30), (10, 20), (25, 40), (26, 27)]  # minutes; the last runs beside the second and the fourth
    rows = [
        {
            "trial": i,
            "label": f"#{i}",
            "state": "COMPLETE",
            "started": noon + timedelta(minutes=a),
            "seconds": 60.0 * (b - a),
        }
        for i, (a, b) in enumerate(spans)
    ]
    (trace,) = timeline(pl.DataFrame(rows, schema=frames.TRIAL_SCHEMA), now=noon).data
    assert list(trace.y) == [1, 2, 1, 1, 3]
