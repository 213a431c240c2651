from __future__ import annotations

import polars as pl
import pytest

from dashboards import metrics, paper
from dashboards.collapse_signs import DUAL_CLIP, GRAD_NORM, LENGTH, POLICY_KL, collapse_signs, sentence

QUIET = {POLICY_KL: 1e-4, GRAD_NORM: 0.2, LENGTH: 1000.0, DUAL_CLIP: 0.0}
RISE = range(40, 44)


def run(changes: dict[str, tuple[range, float]], *, steps: int = 60, trial: int = 1) -> pl.DataFrame:
    """A quiet run, but for a factor (a value for the dual-clip fraction) of some metrics in some steps."""
    rows = []
    for metric, usual in QUIET.items():
        where, change = changes.get(metric, (range(0), 1.0))
        changed = change if metric == DUAL_CLIP else usual * change
        rows += [(trial, f"#{trial}", step, metric, changed if step in where else usual) for step in range(1, steps)]
    return pl.DataFrame(rows, schema=metrics.SCHEMA, orient="row")


def found(frame: pl.DataFrame) -> dict[str, int]:
    return dict(collapse_signs(frame).select("metric", "step").rows())


def test_the_papers_collapse_shows_all_four_signs_where_its_length_turns() -> None:
    curve = paper.curves().filter(pl.col("figure") == 2)
    steps = pl.DataFrame({"step": range(1, 138)})
    parts = []
    for (metric,), own in curve.group_by("metric", maintain_order=True):
        # The figure leaves out points on a straight line.
        every = steps.join(own.select("step", "value"), on="step", how="left")
        every = every.with_columns(pl.col("value").interpolate())
        parts.append(every.select(pl.lit(0).alias("trial"), pl.lit("paper").alias("label"), "step",
                                  pl.lit(metric).alias("metric"), "value").cast(metrics.SCHEMA))  # fmt: skip
    signs = collapse_signs(pl.concat(parts))
    assert dict(signs.select("metric", "step").rows()) == {POLICY_KL: 69, DUAL_CLIP: 69, GRAD_NORM: 70, LENGTH: 71}


@pytest.mark.parametrize("run", ["fipo", "dapo"])
def test_the_papers_long_runs_show_none(run: str) -> None:
    curve = paper.curves().filter(pl.col("figure").is_in([3, 5]) & (pl.col("run") == run))
    frame = curve.select(pl.lit(0).alias("trial"), pl.lit("paper").alias("label"), "step", "metric", "value")
    assert collapse_signs(frame.cast(metrics.SCHEMA)).is_empty()


@pytest.mark.parametrize("other", [(DUAL_CLIP, 1e-5), (GRAD_NORM, 2.5), (LENGTH, 0.8)])
def test_policy_kl_that_stays_up_and_one_other_sign_are_enough(other: tuple[str, float]) -> None:
    metric, change = other
    assert found(run({POLICY_KL: (RISE, 5), metric: (range(41, 42), change)})) == {POLICY_KL: 40, metric: 41}


def test_policy_kl_that_scatters_around_nothing_does_not_rise_within_its_scatter() -> None:
    """Its median is 1e-6 here; three steps of 5e-5 are half of what is usual, and of 5e-4 five times that."""
    around = [(step, (-1e-4, 1e-6, 1e-4)[step % 3]) for step in range(1, 60)]
    for size, rises in ((5e-5, False), (5e-4, True)):
        kl = [(1, "#1", step, POLICY_KL, size if step in RISE else value) for step, value in around]
        rest = run({GRAD_NORM: (RISE, 3)}).filter(pl.col("metric") != POLICY_KL)
        frame = pl.concat([rest, pl.DataFrame(kl, schema=metrics.SCHEMA, orient="row")])
        assert (POLICY_KL in found(frame)) is rises


def test_no_sign_alone_is_enough() -> None:
    for metric, change in ((POLICY_KL, 5), (DUAL_CLIP, 1e-5), (GRAD_NORM, 2.5), (LENGTH, 0.8)):
        assert found(run({metric: (RISE, change)})) == {}


@pytest.mark.parametrize(("steps", "factor"), [(range(40, 42), 50), (range(40, 60), 2.9)])
def test_a_single_peak_of_policy_kl_or_a_small_rise_is_none(steps: range, factor: float) -> None:
    assert found(run({POLICY_KL: (steps, factor), GRAD_NORM: (steps, 5)})) == {}


def test_signs_far_from_each_other_do_not_count_together() -> None:
    assert found(run({POLICY_KL: (RISE, 5), GRAD_NORM: (range(50, 52), 5)})) == {}


def test_a_run_too_short_to_say_what_is_usual_has_none() -> None:
    assert found(run({POLICY_KL: (range(5, 9), 50), GRAD_NORM: (range(5, 9), 5)}, steps=9)) == {}


def test_each_trial_is_judged_by_itself() -> None:
    both = pl.concat([run({}), run({POLICY_KL: (RISE, 5), GRAD_NORM: (RISE, 3)}, trial=2)])
    assert collapse_signs(both)["trial"].unique().to_list() == [2]


def test_the_sentence_tells_the_signs_in_their_order_with_their_size() -> None:
    signs = collapse_signs(run({POLICY_KL: (RISE, 5), LENGTH: (range(41, 44), 0.8)}))
    assert sentence(signs) == (
        "#1: policy KL is 5.0 times its usual size at step 40, mean length falls to 80 % of what it was at step 41."
        " In the paper's Figure 2 a run that does so collapses."
    )
