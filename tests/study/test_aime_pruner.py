"""The AIME pruner's decision on arrays, and its way through a real bridge and SQLite study."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from scipy import stats

from study import attributes
from study.aime_pruner import AimePruner, decide
from study.assignment import Report
from study.directory import is_enough
from trainer.errors import UserError

K, PROBLEMS = 32, 30
OPTIONS = {"samples": K, "remaining": 0.5, "margin": 0.01, "level": 0.8, "information_level": 0.1, "references": 3}
EASE = np.linspace(0.05, 0.75, PROBLEMS)
INTERIM = [0.30, 0.34, 0.38, 0.42, 0.46]


def rates(accuracy: float) -> np.ndarray:
    """[problems] rates with exactly this mean."""
    return EASE + accuracy - EASE.mean()


def peers(interim: list[float] = INTERIM) -> np.ndarray:
    return np.stack([rates(each) for each in interim])


def forecast(
    trial: np.ndarray, completed: np.ndarray, finals: np.ndarray, *, samples: int, remaining: float, margin: float
) -> float:
    """P(final gap < -margin) by the four steps of the module: least squares, the prior being one more observation."""
    stayed = completed.mean(axis=1) - finals < 0.1
    best = np.argsort(finals)[::-1][: min(3, len(finals) // 2)]
    now = completed.mean(axis=1)[stayed] - completed[best].mean()
    end = finals[stayed] - finals[best].mean()
    guess = 0.04 * np.sqrt(remaining)  # of the drift, worth four trials; the slope is 1 +- 1/2
    (slope,), *_ = np.linalg.lstsq(np.append(now / guess, 2)[:, None], np.append(end / guess, 2))
    rises = [max(y - slope * x, 0) for x, y in zip(now, end, strict=True)]
    freedom = 4 + stayed.sum() - 1
    drift = (4 * guess**2 + 2 * np.dot(rises, rises)) / freedom
    gaps = trial - completed[best].mean(axis=0)
    smooth = (trial * samples + 1 / 2) / (samples + 1)
    noise = max(stats.sem(gaps) ** 2, np.mean(smooth * (1 - smooth)) / samples / len(trial))
    variance = drift + gaps.mean() ** 2 / (np.dot(now, now) / drift + 4) + slope**2 * noise
    return stats.t(freedom, loc=slope * gaps.mean(), scale=np.sqrt(variance)).cdf(-margin)


SWING = np.tile([-0.2, 0.1, 0.1], PROBLEMS // 3)


@pytest.mark.parametrize(
    ("accuracy", "interim", "finals", "changes"),
    [
        # Two rose above the line, the last fell.
        (0.36, [*INTERIM, 0.5], [0.38, 0.45, 0.43, 0.57, 0.52, 0.39], {"information_level": 0.2}),
        (0.4, INTERIM, [0.21, *INTERIM[1:]], {"margin": 0.0, "remaining": 0.9}),
        # Its own few responses are the noise.
        (0.33, INTERIM, [0.33, 0.34, 0.4, 0.41, 0.5], {"samples": 2, "remaining": 0.2}),
        # Two did not fall: just enough.
        (0.33, [0.3, 0.4, 0.5, 0.5], [0.32, 0.45, 0.3, 0.3], {"information_level": 0.5}),
    ],
)
def test_the_probability_is_that_of_least_squares_and_students_t(accuracy, interim, finals, changes):
    options = OPTIONS | changes
    trial, completed, finals = rates(accuracy) + SWING, peers(interim), np.array(finals)
    given = {key: options[key] for key in ("samples", "remaining", "margin")}
    found = decide(trial, completed, finals, **options).probability
    assert found == pytest.approx(forecast(trial, completed, finals, **given), abs=1e-9)
    assert 0.05 < found < 0.95  # where the tail is, any forecast would do


def test_a_trial_far_below_the_best_is_pruned():
    decision = decide(rates(0.15), peers(), np.array(INTERIM) + 0.1, **OPTIONS)
    assert decision.prune
    assert decision.probability > 0.95


@pytest.mark.parametrize("accuracy", [0.43, 0.46, 0.5])
def test_a_trial_level_with_the_best_or_above_is_kept(accuracy):
    decision = decide(rates(accuracy), peers(), np.array(INTERIM) + 0.1, **OPTIONS)
    assert not decision.prune
    assert decision.probability < 0.8


def test_the_probability_falls_as_the_trial_gets_better():
    found = [decide(rates(x), peers(), np.array(INTERIM), **OPTIONS).probability for x in (0.2, 0.3, 0.4, 0.5)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_without_evidence_that_interim_results_predict_the_end_everything_is_kept_and_said():
    decision = decide(rates(0.05), peers(), np.array([0.5, 0.3, 0.6, 0.2, 0.4]), **OPTIONS)
    assert not decision.prune
    assert decision.probability is None
    assert "no evidence" in decision.reason


def test_equal_interim_results_carry_no_information():
    assert decide(rates(0.05), peers([0.3] * 5), np.linspace(0.2, 0.6, 5), **OPTIONS).probability is None


def test_the_same_mean_gap_spread_over_disagreeing_problems_counts_for_less():
    """Problem noise: the gap is 0.15 in both, once the same on every problem, once from a third of them."""
    even = decide(rates(0.27), peers(), np.array(INTERIM), **OPTIONS).probability
    swing = np.tile([-0.3, 0.15, 0.15], PROBLEMS // 3)
    uneven = decide(rates(0.27) + swing, peers(), np.array(INTERIM), **OPTIONS).probability
    assert uneven < even


def test_fewer_samples_make_the_same_gap_count_for_less():
    many, few = (
        decide(rates(0.36), peers(), np.array(INTERIM), **OPTIONS | {"samples": k}).probability for k in (256, 2)
    )
    assert few < many


def test_a_trial_with_no_correct_response_has_no_certainty_of_zero_variance():
    decision = decide(np.zeros(PROBLEMS), np.zeros((5, PROBLEMS)), np.zeros(5), **OPTIONS)
    assert not decision.prune


def test_past_rises_widen_the_forecast_and_past_collapses_do_not():
    finals = np.array(INTERIM)
    plain = decide(rates(0.3), peers(), finals, **OPTIONS).probability
    risen, fallen = finals.copy(), finals.copy()
    risen[2] += 0.05
    fallen[2] -= 0.05
    assert decide(rates(0.3), peers(), risen, **OPTIONS | {"information_level": 0.5}).probability < plain
    assert decide(rates(0.3), peers(), fallen, **OPTIONS | {"information_level": 0.5}).probability > 0.9 * plain


def test_a_wider_margin_prunes_less():
    narrow, wide = (
        decide(rates(0.3), peers(), np.array(INTERIM), **OPTIONS | {"margin": m}).probability for m in (0.0, 0.1)
    )
    assert wide < narrow


def test_the_nearer_the_end_the_surer_the_same_gap():
    early, late = (
        decide(rates(0.38), peers(), np.array(INTERIM), **OPTIONS | {"remaining": r}).probability for r in (0.9, 0.1)
    )
    assert early < late


def test_past_trials_whose_gaps_vanished_make_a_gap_count_for_less():
    lasting, vanishing = (
        decide(rates(0.3), peers(), np.array(ends), **OPTIONS).probability
        for ends in (INTERIM, [0.456, 0.457, 0.458, 0.459, 0.46])
    )
    assert vanishing < lasting


def test_a_collapsed_trial_does_not_hide_what_the_others_tell():
    finals = np.array([*INTERIM[:4], 0.05])  # the best interim result fell
    assert decide(rates(0.15), peers(), finals, **OPTIONS).prune


def test_where_all_trials_fell_nothing_is_known_of_those_that_rise():
    for stayed in (0, 1):
        fall = np.array([0.0] * stayed + [0.2] * (5 - stayed))
        decision = decide(rates(0.05), peers(), np.array(INTERIM) - fall, **OPTIONS)
        assert decision.probability is None
        assert f"{stayed} did not fall" in decision.reason


@pytest.mark.parametrize(
    "option",
    [
        {"n_startup_trials": 3},
        {"n_warmup_steps": -1},
        {"patience": 0},
        {"references": 0},
        {"margin": 1.0},
        {"level": 0.4},
        {"level": 1.0},
        {"information_level": 0.0},
    ],
)
def test_an_option_out_of_range_is_refused_with_its_value(option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"{name} .*got {value}"):
        AimePruner(**option)


def test_a_trial_without_per_problem_results_is_refused():
    study = optuna.create_study(pruner=AimePruner(), direction="maximize")
    with pytest.raises(ValueError, match="no per-problem results"):
        for accuracy in INTERIM:
            trial = study.ask()
            for step in (5, 10, 15):
                trial.report(accuracy, step)
                trial.should_prune()
            study.tell(trial, accuracy)


def run(bridge, *accuracies: float, base: float = 0.4) -> int:
    """A trial of these on steps 5, 10, 15, 20, or of one on all, until it is stopped, from a base model at `base`."""
    number = bridge.ask().number
    for step, accuracy in zip(
        range(0, 21, 5), (base, *(accuracies if accuracies[1:] else accuracies * 4)), strict=True
    ):
        solved = np.rint(rates(accuracy).clip(0, 1) * K).astype(int).tolist()
        if bridge.report(number, Report(step, sum(solved) / K / PROBLEMS, samples=K, solved=solved)):
            break
    bridge.finish(number)
    return number


def test_through_the_bridge_the_hopeless_trial_is_pruned_and_the_good_ones_end(make_bridge):
    bridge = make_bridge(pruner={"name": "aime"}, trials=7)
    for accuracy in INTERIM:
        run(bridge, accuracy, base=accuracy)
    run(bridge, 0.1, base=0.1)
    run(bridge, 0.47)
    trials = bridge.study.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5 + ["PRUNED", "COMPLETE"]
    # patience 2, and the base model does not count, though it is as hopeless: the second after it is the first chance
    assert trials[5].user_attrs["pruned_at"] == 10
    assert "P(worse by more than 0)" in trials[5].user_attrs["pruner"]
    assert trials[5].user_attrs["solved/10"]["samples"] == K


@pytest.mark.parametrize(
    ("options", "pruned_at"), [({"patience": 3}, 15), ({"patience": 1}, 5), ({"n_warmup_steps": 15}, 15)]
)
def test_patience_and_warm_up_delay_the_decision(make_bridge, options, pruned_at):
    bridge = make_bridge(pruner={"name": "aime", **options}, trials=6)
    for accuracy in INTERIM:
        run(bridge, accuracy)
    run(bridge, 0.1)
    assert bridge.study.trials[5].user_attrs["pruned_at"] == pruned_at


@pytest.mark.parametrize(
    ("accuracies", "pruned_at"),
    [((0.5, 0.1, 0.5, 0.5), None), ((0.5, 0.1, 0.1, 0.1), 15), ((0.1, 0.5, 0.1, 0.1), None)],
)
def test_evaluations_agree_when_they_follow_each_other(make_bridge, accuracies, pruned_at):
    """A trial is never pruned at its last step, where the last of these agree."""
    bridge = make_bridge(pruner={"name": "aime"}, trials=6)
    for accuracy in INTERIM:
        run(bridge, accuracy)
    run(bridge, *accuracies)
    assert bridge.study.trials[5].user_attrs.get("pruned_at") == pruned_at


def test_nothing_is_pruned_before_enough_trials_completed(make_bridge):
    bridge = make_bridge(pruner={"name": "aime", "n_startup_trials": 5}, trials=5)
    for accuracy in (*INTERIM[:4], 0.05):
        run(bridge, accuracy)
    assert {trial.state.name for trial in bridge.study.trials} == {"COMPLETE"}


def test_the_fewest_trials_that_have_to_complete_are_enough(make_bridge):
    bridge = make_bridge(pruner={"name": "aime", "n_startup_trials": 5}, trials=6)
    for accuracy in (*INTERIM, 0.1):
        run(bridge, accuracy)
    assert bridge.study.trials[5].user_attrs["pruned_at"] == 10


def test_how_much_is_still_to_come_is_counted_from_this_step_to_the_last_of_any_trial():
    study, interim = optuna.create_study(direction="maximize"), dict(zip(INTERIM, (20, 15, 20, 20, 20), strict=True))
    for accuracy, last in interim.items():
        record = {"samples": K, "solved": (rates(accuracy) * K).tolist()}
        values = dict.fromkeys((0, 5, last), accuracy)
        study.add_trial(
            optuna.create_trial(value=accuracy, intermediate_values=values, user_attrs={attributes.solved(5): record})
        )
    trial = study.ask()
    trial.report(0.4, 5)
    trial.set_user_attr(attributes.solved(5), {"samples": K, "solved": (rates(0.4) * K).tolist()})
    AimePruner(patience=1, margin=0.01).prune(study, study.trials[5])
    said = [decide(rates(0.4), peers(), np.array(INTERIM), **OPTIONS | {"remaining": r}).reason for r in (0.75, 2 / 3)]
    assert (
        study.trials[5].user_attrs[attributes.PRUNER_REASON] == f"{said[0]}; reference: trials 4, 3"
        and said[0] != said[1]
    )


def test_other_pruners_store_no_per_problem_results(make_bridge):
    bridge = make_bridge(pruner={"name": "median"})
    run(bridge, 0.4)
    assert not any(key.startswith("solved/") for key in bridge.study.trials[0].user_attrs)


def test_the_wrapped_pruner_sees_problems_too(make_bridge):
    bridge = make_bridge(
        pruner={"name": "patient", "patience": 0, "wrapped_pruner": {"name": "aime", "patience": 1}}, trials=6
    )
    for accuracy in INTERIM:
        run(bridge, accuracy)
    run(bridge, 0.1)
    assert bridge.study.trials[5].state.name == "PRUNED"


def test_a_metric_that_is_not_a_mean_of_problems_is_refused(make_spec):
    with pytest.raises(UserError, match="pruner aime compares avg@k"):
        make_spec(pruner={"name": "aime"}, metric="cons@k")


def test_an_option_out_of_range_in_a_spec_is_one_line(make_spec):
    with pytest.raises(UserError, match=r"level must be at least 0.5 and below 1, got 2"):
        make_spec(pruner={"name": "aime", "level": 2.0})


def raced(bridge, accuracy: float, *, samples: int = 8) -> bool:
    """Whether the next trial's evaluation at step 5 is said to have enough after a first look at `accuracy`."""
    assignment = bridge.ask()
    solved = np.rint(rates(accuracy).clip(0, 1) * samples).astype(int).tolist()
    bridge.look(assignment.number, step=5, samples=samples, solved=solved)
    return is_enough(assignment.directory, 5, samples)


@pytest.mark.parametrize(
    ("margin", "accuracy", "enough"),
    [
        (0, 0.05, True), (0, 0.42, False), (0, 0.6, True),
        # P(worse by more than the margin) is 0.89, 0.78, 0.23 and 0.13, at a level of 0.8.
        (0.05, 0.34, True), (0.05, 0.36, False), (0.05, 0.42, False), (0.05, 0.44, True),
    ],
)  # fmt: skip
def test_a_race_goes_on_only_while_the_decision_is_open(make_bridge, margin, accuracy, enough):
    bridge = make_bridge(pruner={"name": "aime", "margin": margin}, trials=6)
    for each in INTERIM:
        run(bridge, each)
    assert raced(bridge, accuracy) is enough


def test_before_anything_can_be_decided_all_samples_are_drawn(make_bridge):
    bridge = make_bridge(pruner={"name": "aime"}, trials=6)
    for each in INTERIM[:3]:
        run(bridge, each)
    assert not raced(bridge, 0.05)
    run(bridge, INTERIM[3])
    assert raced(bridge, 0.05)


def test_without_information_a_first_look_is_enough(make_bridge):
    bridge = make_bridge(pruner={"name": "aime"}, trials=6)
    for _ in INTERIM:
        run(bridge, 0.4)
    assert raced(bridge, 0.05)


def test_a_confirmation_draws_all_samples(make_bridge):
    bridge = make_bridge(pruner={"name": "aime"}, trials=5, replicas={"seeds": 2, "top": 1})
    for each in INTERIM:
        run(bridge, each)
    assert not raced(bridge, 0.05)  # which is enough for a trial that can be pruned
    assert bridge.study.trials[5].user_attrs["confirms"] == 4


def test_word_of_another_evaluation_is_not_taken_for_this_one(make_bridge):
    bridge = make_bridge(pruner={"name": "aime"}, trials=6)
    for each in INTERIM:
        run(bridge, each)
    assert raced(bridge, 0.05)
    directory = bridge.directory / "trials" / "0005"
    assert not is_enough(directory, 10, 8)
    assert not is_enough(directory, 5, 16)


def test_a_race_without_a_pruner_that_ends_it_is_refused(make_spec):
    sets = [{"name": "sums_select", "path": "embedded:select", "first_look": 2}]
    with pytest.raises(UserError, match=r"first_look = 2: pruner median .* set pruner.name to aime"):
        make_spec(trainer={"steps": 20, "evaluation": {"sets": sets}}, pruner={"name": "median"})
    make_spec(trainer={"steps": 20, "evaluation": {"sets": sets}}, pruner={"name": "aime"})
