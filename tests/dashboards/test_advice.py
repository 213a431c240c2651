from __future__ import annotations

import dataclasses

import polars as pl
import pytest

from dashboards import frames
from dashboards.advice import advice
from study.lock import Driver
from study.results import StudyResults, TrialResult
from study.spec import Replicas

DRIVER = Driver("host", 1)
WITHIN = {"fipo.epsilon_f_low": 0.2, "fipo.epsilon_f_high": 0.2, "fipo.half_life": 16.0,
          "optimizer.learning_rate": 2e-4}  # fmt: skip


def said(results: StudyResults) -> list[str]:
    return [each.sentence for each in advice(results, frames.trials(results), frames.evaluations(results))]


def changed(results: StudyResults, number: int, **changes: object) -> StudyResults:
    trials = [dataclasses.replace(t, **changes) if t.number == number else t for t in results.trials]
    return dataclasses.replace(results, trials=tuple(trials))


def test_the_best_is_compared_with_the_control_on_the_set_that_chose_nothing(finished: StudyResults) -> None:
    (found,) = [each for each in advice(finished, frames.trials(finished), frames.evaluations(finished)) if each.query]
    assert finished.best is not None
    best = f"#{finished.best.number}"
    assert (found.page, found.query) == ("compare", {"trials": [best, "DAPO (#0)"], "set": "sums_report"})
    gap = finished.best.evaluations[-1].scores[1].accuracy - finished.trials[0].evaluations[-1].scores[1].accuracy
    differ = f" Trial {finished.best.number} and DAPO differ in optimizer.learning_rate ("
    assert differ in found.sentence
    assert found.sentence.endswith(" and 0.00015) too, so this is not the effect of FIPO alone.")
    written = float(found.sentence.split(": ")[1].split()[0])
    assert written == pytest.approx(100 * gap, abs=0.051)


def test_controls_alone_are_no_search(finished: StudyResults) -> None:
    """They come first; in a study of nothing else they are compared."""
    two = tuple(dataclasses.replace(each, control=f"c{each.number}", state="COMPLETE") for each in finished.trials[:2])
    early = dataclasses.replace(finished, trials=two, driver=DRIVER)
    assert said(early) == []
    whole = dataclasses.replace(early, spec=finished.spec.model_copy(update={"trials": 2}))
    assert said(whole) != []
    sampled = dataclasses.replace(finished.trials[2], state="PRUNED")
    assert said(dataclasses.replace(early, trials=(*two, sampled))) != []


def test_where_both_were_confirmed_a_single_run_of_each_is_not_compared(finished: StudyResults) -> None:
    best = finished.best
    assert best is not None
    again = [dataclasses.replace(finished.trials[own], number=20 + 2 * i + j, confirms=own, control=None, value=value,
                                 beside={"seed": 1 + j})
             for i, (own, value) in enumerate(((0, 0.5), (best.number, 0.7))) for j in range(2)]  # fmt: skip
    both = dataclasses.replace(finished, trials=(*finished.trials, *again))
    one = dataclasses.replace(finished, trials=(*finished.trials, *again[2:]))
    assert not any("minus DAPO" in each for each in said(both))
    assert any("minus DAPO" in each for each in said(one))


@pytest.mark.parametrize(
    ("key", "value", "end"),
    [("fipo.half_life", 63.0, "upper"), ("fipo.half_life", 4.1, "lower"), ("fipo.half_life", 16.0, None),
     ("fipo.epsilon_f_low", 0.0, None)],
)  # fmt: skip
def test_a_best_value_at_an_end_that_can_be_moved_asks_for_a_wider_range(
    finished: StudyResults, key: str, value: float, end: str | None
) -> None:
    assert finished.best is not None
    asked = [each for each in said(changed(finished, finished.best.number, params=WITHIN | {key: value}))
             if "widen" in each]  # fmt: skip
    assert [f"{end} end" in each for each in asked] == ([True] if end else [])


def test_an_end_beyond_which_there_is_nothing_is_not_to_be_moved(finished: StudyResults) -> None:
    assert finished.best is not None
    best = changed(finished, finished.best.number, params=WITHIN | {"fipo.epsilon_f_low": 0.99})
    for high, asks in ((0.995, True), (1.0, False)):  # weights of 1 - epsilon_f_low end at 0
        wide = best.spec.space["fipo.epsilon_f_low"].model_copy(update={"high": high})
        spec = best.spec.model_copy(update={"space": {**best.spec.space, "fipo.epsilon_f_low": wide}})
        assert any("widen" in each for each in said(dataclasses.replace(best, spec=spec))) is asks


def test_where_the_best_solves_what_the_control_does_no_difference_is_told(finished: StudyResults) -> None:
    assert finished.best is not None
    same = changed(finished, finished.best.number, evaluations=finished.trials[0].evaluations)
    name = finished.best.evaluations[-1].scores[-1].name
    line = f"#{finished.best.number} and DAPO (#0) solve each problem of {name} equally often."
    assert line in said(same)  # nor what else they differ in, which has no effect to be mistaken for that of FIPO


def test_a_set_that_hardly_tells_the_best_apart_is_said_to(finished: StudyResults) -> None:
    def ended(trial: TrialResult, right: int) -> TrialResult:
        last = trial.evaluations[-1]
        one, two = (score.model_copy(update={"solved": (8,) * 30, "accuracy": 1.0}) for score in last.scores)
        one = one.model_copy(update={"solved": (right,) + (8,) * 29, "accuracy": 1 - (8 - right) / 240})
        evaluations = (*trial.evaluations[:-1], last.model_copy(update={"scores": (one, two)}))
        return dataclasses.replace(trial, evaluations=evaluations)

    complete = [trial for trial in finished.trials if trial.state == "COMPLETE"]
    near = dataclasses.replace(finished, trials=tuple(ended(trial, i % 3) for i, trial in enumerate(complete)))
    count = min(6, len(complete))
    expected = (f"All differences between the best {count} trials come from 1 of 30 problems of sums_select."
                f" sums_report is at its ceiling: it cannot tell the best {count} trials apart.")  # fmt: skip
    assert expected in said(near)
    assert not any("ceiling" in each or "All differences" in each for each in said(finished))


def test_a_control_that_none_beats_is_said_to_be(finished: StudyResults) -> None:
    pruned = next(trial for trial in finished.trials if trial.state == "PRUNED")
    only = dataclasses.replace(finished, trials=(finished.trials[0], pruned))
    assert any("No sampled setting beats the control DAPO" in each for each in said(only))


def test_where_a_control_is_the_best_it_is_not_compared_with_another(finished: StudyResults) -> None:
    assert finished.best is not None
    params = finished.trials[0].params | {"optimizer.learning_rate": 3e-4}
    second = dataclasses.replace(finished.trials[0], number=97, control="DAPO faster", value=1.0, params=params)
    results = dataclasses.replace(finished, trials=(*finished.trials, second))
    assert "No sampled setting beats the control DAPO faster (#97) yet." in said(results)


def test_that_none_beats_it_over_fresh_seeds_is_said_where_others_have_some(finished: StudyResults) -> None:
    control, other = finished.trials[0], next(t for t in finished.trials[1:] if t.state == "COMPLETE")
    other = dataclasses.replace(other, value=0.0)

    def sentence(*confirmed: TrialResult) -> str:
        again = [dataclasses.replace(each, number=90 + i + 2 * seed, control=None, confirms=each.number,
                                     beside={"seed": seed})
                 for i, each in enumerate(confirmed) for seed in (1, 2)]  # fmt: skip
        results = dataclasses.replace(finished, trials=(control, other, *again))
        return next(each for each in said(results) if "beats the control" in each)

    assert sentence(control) == "No sampled setting beats the control DAPO (#0) yet."
    assert sentence(control, other) == "No sampled setting beats the control DAPO (#0) over fresh seeds yet."


def test_the_best_is_compared_with_a_control_that_differs_in_fipo_alone_where_there_is_one(
    finished: StudyResults,
) -> None:
    assert finished.best is not None
    params = finished.best.params | {"fipo.epsilon_f_low": 0.0, "fipo.epsilon_f_high": 0.0}
    near = dataclasses.replace(finished.trials[0], number=97, control="near", params=params)
    with_it = dataclasses.replace(finished, trials=(*finished.trials, near))
    (sentence,) = [each for each in said(with_it) if "problem by problem" in each or "equally often" in each]
    assert "near (#97)" in sentence and "FIPO alone" not in sentence


def test_failures_come_first_with_their_reason(finished: StudyResults) -> None:
    broken = changed(finished, 1, state="FAIL", value=None, fail_reason="out of memory")
    assert said(broken)[0] == "1 trial failed, the first with: out of memory"


def test_a_control_that_failed_is_what_nothing_is_compared_with(finished: StudyResults) -> None:
    (number,) = (each.number for each in finished.trials if each.control is not None)
    first, second, *_ = said(changed(finished, number, state="FAIL", value=None, fail_reason="out of memory"))
    assert "nothing will be compared with DAPO; where you need it: " in first and second.startswith("1 trial failed")


def test_trials_within_noise_are_said_to_be(finished: StudyResults) -> None:
    same = frames.evaluations(finished).with_columns(pl.lit(0.5).alias("accuracy"))
    (first, *_) = advice(finished, frames.trials(finished), same)
    assert "do not differ beyond the sampling error of avg@k" in first.sentence and first.page == "hyperparameters"


def test_where_trials_do_not_differ_no_range_is_to_be_widened(finished: StudyResults) -> None:
    assert finished.best is not None
    edge = changed(finished, finished.best.number, params=WITHIN | {"fipo.half_life": 63.0})
    assert any("widen" in each for each in said(edge))
    same = frames.evaluations(edge).with_columns(pl.lit(0.5).alias("accuracy"))
    within = [each.sentence for each in advice(edge, frames.trials(edge), same)]
    assert "do not differ beyond" in " ".join(within) and not any("widen" in each for each in within)
    second = next(each.number for each in edge.evidence if each.number != edge.best.number)
    assert not any("widen" in each for each in said(changed(edge, second, value=edge.best.value)))
    # Confirmed ones go first in the ranking; one that is as good and was not confirmed is as good all the same.
    value = edge.best.value
    again = [dataclasses.replace(edge.best, number=20 + i, confirms=edge.best.number, beside={"seed": 1 + i},
                                 value=value + gap) for i, gap in enumerate((0.01, -0.01))]  # fmt: skip
    confirmed = dataclasses.replace(edge, trials=(*edge.trials, *again))
    assert any("widen" in each for each in said(confirmed))
    assert not any("widen" in each for each in said(changed(confirmed, second, value=value)))


def test_confirmations_are_not_counted_as_trials(finished: StudyResults) -> None:
    complete = sum(trial.state == "COMPLETE" for trial in finished.trials)
    again = dataclasses.replace(finished.trials[0], number=20, confirms=0, control=None)
    more = dataclasses.replace(finished, trials=(*finished.trials, again))
    same = frames.evaluations(more).with_columns(pl.lit(0.5).alias("accuracy"))
    (first, *_) = advice(more, frames.trials(more), same)
    assert first.sentence.startswith(
        f"The {complete} complete trials, those that confirm others left out, do not differ"
    )


def test_while_confirmations_run_the_best_may_change(finished: StudyResults) -> None:
    again = dataclasses.replace(finished.trials[1], number=len(finished.trials), confirms=1, beside={"seed": 9})
    spec = finished.spec.model_copy(update={"replicas": Replicas(seeds=2, top=1)})
    under_way = dataclasses.replace(finished, spec=spec, trials=(*finished.trials, again))
    assert any(
        each == "1 of 4 confirmations has ended: which is the best may still change." for each in said(under_way)
    )


def test_a_study_that_repeats_seeds_is_not_told_to(finished: StudyResults) -> None:
    confirmed = changed(finished, 1, confirms=0)
    assert any("one seed" in each for each in said(finished))
    assert not any("one seed" in each for each in said(confirmed))
    to_come = dataclasses.replace(finished, spec=finished.spec.model_copy(update={"replicas": Replicas(seeds=2)}))
    assert not any("one seed" in each for each in said(to_come))


@pytest.mark.parametrize("kept", [0, 1])
def test_a_young_study_gets_no_advice(finished: StudyResults, kept: int) -> None:
    running = [dataclasses.replace(t, state="RUNNING", value=None) for t in finished.trials[1 : 1 + kept]]
    assert said(dataclasses.replace(finished, trials=tuple(running), driver=DRIVER)) == []


def test_a_stopped_study_says_how_it_goes_on(finished: StudyResults) -> None:
    stopped = changed(finished, 11, state="RUNNING", value=None)
    assert (
        said(stopped)[0]
        == f"No process drives the study and 1 trial is left; go on with: fipo resume {stopped.directory}"
    )
    assert not any("resume" in each for each in said(dataclasses.replace(stopped, driver=DRIVER)))
    assert not any("go on with" in each for each in said(finished))


def test_on_a_log_scale_three_doublings_of_eight_are_within_the_range(finished: StudyResults) -> None:
    """32 of 4 to 1024: 28 of 1020 would be its lower end."""
    assert finished.best is not None
    wide = finished.spec.space["fipo.half_life"].model_copy(update={"low": 4, "high": 1024})
    spec = finished.spec.model_copy(update={"space": {**finished.spec.space, "fipo.half_life": wide}})
    within = changed(finished, finished.best.number, params=WITHIN | {"fipo.half_life": 32.0})
    assert not any("widen" in each for each in said(dataclasses.replace(within, spec=spec)))
