"""What is said of the best trial, on real study directories."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace

import pytest
import yaml

from study.against import against_controls, confounded
from study.commands import Enqueue, carry_out
from study.display import conclusion
from study.export import prepare
from study.export.provenance import selection_lines
from study.results import StudyResults, TrialResult, read_study
from study.space import few_digits
from study.spec import Replicas
from study.tables import as_json
from study.verdict import below_base, failed_controls, how_to_confirm, seed_means, tie, tied, verdict
from trainer.digits import decimal


@pytest.mark.parametrize(
    ("end", "remedy"),
    [(0.5, "train longer or raise the learning rate"), (0.95, "harder problems"), (1.0, "harder problems")],
)
def test_trials_that_all_solved_the_same_are_a_tie_and_none_is_best(make_bridge, run_trial, end, remedy):
    bridge = make_bridge()
    for first in (0.2, 0.3, 0.4):
        run_trial(bridge, [first, 0.3, 0.4, 0.5, end])
    (line,) = verdict(read_study(bridge.directory))
    assert line.startswith("All 3 COMPLETE trials solved every problem equally often at the last step")
    assert remedy in line
    told = conclusion(read_study(bridge.directory), bridge.directory)
    assert line in told and "Best" not in "\n".join(told)


def test_a_seed_that_differs_is_no_tie_nor_is_one_configuration_with_itself(make_bridge, run_trial):
    bridge = make_bridge()
    for _ in range(3):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.5])
    three = read_study(bridge.directory)
    assert tie(three) is not None
    again = replace(three, trials=(*three.trials[:2], replace(three.trials[2], confirms=0, beside={"seed": 1})))
    assert "All 3 COMPLETE trials" in str(tie(again))
    scores = tuple(each.model_copy(update={"solved": (8, 0) * 5}) for each in three.trials[2].evaluations[-1].scores)
    other = three.trials[2].evaluations[-1].model_copy(update={"scores": scores})
    differs = replace(again.trials[2], evaluations=(*three.trials[2].evaluations[:-1], other))
    assert tie(replace(again, trials=(*again.trials[:2], differs))) is None
    assert tie(replace(again, trials=(again.trials[0], again.trials[2]))) is None
    unknown = replace(three.trials[2], evaluations=())  # as of a directory older than its storage
    assert tie(replace(three, trials=(*three.trials[:2], unknown))) is None


def test_of_trials_that_differ_in_length_alone_accuracy_is_the_tie_and_with_two_objectives_nothing_is(results):
    def shorter(trial):
        scores = tuple(each.model_copy(update={"mean_length": 9.0}) for each in trial.evaluations[-1].scores)
        return replace(trial, evaluations=(*trial.evaluations[:-1],
                                           trial.evaluations[-1].model_copy(update={"scores": scores})))  # fmt: skip

    same = tuple(
        replace(results.trials[0], number=number, control=None, params=results.trials[number].params)
        for number in range(2)
    )
    (line,) = verdict(replace(results, trials=same))
    assert "at the last step: what was swept changed nothing that this evaluation can see; " in line
    differ = replace(results, trials=(same[0], shorter(same[1])))
    (line,) = verdict(differ)
    assert "at the last step: only their lengths differ; " in line
    said = verdict(replace(differ, spec=results.spec.model_copy(update={"against": "length"})))
    assert said[0].startswith("Best: trial 1")
    assert said[1].startswith("By sums_select/avg@8, with trial 0, and the shortest of them; what is best for its")


def test_of_equals_the_shorter_is_the_best_where_length_is_an_objective(results):
    def ended(number, accuracy, length):
        last = results.trials[0].evaluations[-1]
        scores = tuple(each.model_copy(update={"mean_length": length}) for each in last.scores)
        evaluations = (*results.trials[0].evaluations[:-1], last.model_copy(update={"scores": scores}))
        trial = replace(results.trials[0], number=number, control=None, value=accuracy, evaluations=evaluations)
        return replace(trial, params={"optimizer.learning_rate": 1e-5 * (1 + number)})

    trials = tuple(ended(*each) for each in ((0, 0.5, 30.0), (1, 0.5, 20.0), (2, 0.5, 25.0), (3, 0.4, 5.0)))
    made = replace(results, trials=trials)
    assert made.best.number == 0
    two = replace(made, spec=results.spec.model_copy(update={"against": "length"}))
    assert [each.number for each in two.evidence] == [1, 2, 0, 3]
    said = "\n".join(verdict(two))
    assert "Best: trial 1" in said
    assert "By sums_select/avg@8, with 2 others, and the shortest of them; what is best for its length too" in said


def test_a_tie_is_the_same_problems_solved_equally_often_not_the_same_accuracy(make_bridge, run_trial):
    bridge = make_bridge()
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.5])
    score = read_study(bridge.directory).trials[0].evaluations[-1].scores[0]
    score = score.model_copy(update={"solved": (8, 0) * 5})
    other = score.model_copy(update={"solved": (0, 8) * 5})
    words = {"who": "All trials", "where": "at step 20"}
    assert tied([score, other], **words) is None and tied([score], **words) is None
    assert str(tied([score, score], **words)).startswith("All trials solved every problem equally often at step 20:")


def test_one_answer_more_is_no_tie(make_bridge, run_trial):
    bridge = make_bridge()
    assert verdict(read_study(bridge.directory)) == []
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.5])
    best, warning = verdict(read_study(bridge.directory))
    assert best.startswith("Best: trial 0") and "No other trial has ended" in warning
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.625])
    best, warning = verdict(read_study(bridge.directory))
    assert best.startswith("Best: trial 1") and "the highest of 2 COMPLETE among 2 trials on 10 problems" in warning


def test_who_shares_the_first_place_is_said(make_bridge, run_trial):
    bridge = make_bridge(trials=5)
    for end in (0.5, 0.75, 0.75):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, end])
    assert (
        "highest of 3 COMPLETE among 3 trials on 10 problems, with trial 2, so"
        in verdict(read_study(bridge.directory))[1]
    )
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.75])
    assert "problems, with 2 others, so part" in verdict(read_study(bridge.directory))[1]


def test_how_to_confirm_the_best_is_told_unless_that_is_planned(results):
    where = results.directory
    told = f"fresh seeds tell how much: fipo set {where} replicas.seeds=3 replicas.top=3, then fipo resume {where}"
    assert verdict(results.at_rest())[1].endswith(told)
    assert verdict(results)[1].endswith("replicas.top=3")  # its driver goes on to them by itself
    planned = results.spec.model_copy(update={"replicas": Replicas(seeds=2)})
    assert verdict(replace(results, spec=planned))[1].endswith("fresh seeds tell how much")
    spaced = replace(results.at_rest(), directory=results.directory.with_name("my study"))
    quoted = f"'{spaced.directory}'"
    assert how_to_confirm(spaced).endswith(
        f"fipo set {quoted} replicas.seeds=3 replicas.top=3, then fipo resume {quoted}"
    )
    assert any(line.endswith("--out 'my study-best.yaml'") for line in conclusion(spaced, spaced.directory))
    two = results.spec.model_copy(update={"against": "length"})
    assert how_to_confirm(replace(results, spec=two)) == ""  # which would be refused


def test_what_is_best_since_others_lost_their_seeds_is_not_called_the_highest(results):
    """Trial 1 has the highest run, and the seed that was to confirm it collapsed."""
    lost = replace(results.trials[1], number=4, confirms=1, state="PRUNED", value=None)
    more = replace(results, trials=(*results.trials, lost))
    assert results.best.number == 1 and more.best.number != 1
    assert any(
        "is the best of 3 COMPLETE among 3 trials on 10 problems by a single run" in each for each in verdict(more)
    )


def test_what_the_best_is_chosen_among_is_one_number_without_pruned_trials_and_confirmations(results):
    pruned = replace(results.trials[2], number=3, state="PRUNED", value=None)
    again = replace(results.trials[1], number=4, confirms=1, state="RUNNING", value=None)
    more = replace(results, trials=(*results.trials, pruned, again))
    assert any("the highest of 3 COMPLETE among 4 trials" in line for line in verdict(more))
    assert "best of 3 COMPLETE among 4 trials" in selection_lines(more, more.trials[1])[0]
    alone = replace(results, trials=(results.trials[1], pruned))
    assert any("No other trial has ended COMPLETE" in line for line in verdict(alone))


RATE = {"optimizer.learning_rate": {"type": "log-uniform", "low": 1e-5, "high": 1e-2}}
BOUND = {"fipo.epsilon_f_high": {"type": "uniform", "low": 0, "high": 0.5}}
KL = {"fipo.kl_coef": {"type": "uniform", "low": 0, "high": 2}}
EPSILON = "fipo.epsilon_f_high"
DAPO = {"label": "DAPO", "values": {"optimizer.learning_rate": 1e-4}}


def with_last(results, number: int, **solved: tuple[int, ...]):
    """The study in which a trial solved these counts of 8 responses at its last step, by set."""
    trial = results.trials[number]
    scores = tuple(
        each.model_copy(update={"solved": solved[each.name], "accuracy": sum(solved[each.name]) / 80})
        for each in trial.evaluations[-1].scores
    )
    evaluations = (*trial.evaluations[:-1], trial.evaluations[-1].model_copy(update={"scores": scores}))
    trials = list(results.trials)
    trials[number] = replace(trial, evaluations=evaluations, value=scores[0].accuracy)
    return replace(results, trials=tuple(trials))


def against(results) -> list[str]:
    return [line for line in verdict(results) if " against " in line]


@pytest.fixture
def results(make_bridge, run_trial):
    """A control, a trial that is better and one that is worse, of ten problems with two sets."""
    sets = [{"name": name, "path": f"embedded:{name[5:]}", "samples": 8} for name in ("sums_select", "sums_report")]
    bridge = make_bridge(enqueue=[DAPO], pruner={"name": "none"}, trainer={"steps": 20, "evaluation": {"sets": sets}})
    for end in (0.5, 0.625, 0.25):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.4, end])
    return read_study(bridge.directory)


def test_a_best_trial_below_its_base_model_is_said_to_be(results):
    assert below_base(results) == []
    best = results.best
    first, last = best.evaluations[0], best.evaluations[-1]
    for base, told in ((1.0, True), (last.scores[0].accuracy, False)):
        scores = (first.scores[0].model_copy(update={"accuracy": base}), *first.scores[1:])
        evaluations = (first.model_copy(update={"scores": scores}), *best.evaluations[1:])
        trials = tuple(replace(t, evaluations=evaluations) if t is best else t for t in results.trials)
        lines = below_base(replace(results, trials=trials))
        assert [line.partition(";")[0] for line in lines] == [
            f"Even the best ended below the base model: {decimal(last.scores[0].accuracy)} against 1.000"
        ] * told
        assert [line for line in verdict(replace(results, trials=trials)) if line.startswith("Even")] == lines


def test_the_best_is_told_against_the_control_on_every_set_with_counts_where_few_problems_differ(results):
    one_better = with_last(results, 1, sums_select=(5,) + (4,) * 9, sums_report=(4,) * 10)
    line = (
        "Trial 1 against DAPO (trial 0): +0.013 on sums_select (better on 1, worse on 0 of 10 problems),"
        " +0.000 on sums_report (the same on all 10)"
    )
    assert against(one_better) == [line]
    assert line in conclusion(one_better, one_better.directory)


def test_where_five_problems_differ_the_difference_has_its_error_over_problems(results):
    half = with_last(results, 1, sums_select=(4, 6) * 5, sums_report=(2, 4) * 5)
    # Gaps of 0 and 1/4 in turn: a standard deviation of 0.1318 over ten problems.
    assert against(half) == [
        "Trial 1 against DAPO (trial 0): +0.125 ±0.042 on sums_select, -0.125 ±0.042 on sums_report"
    ]


def test_a_control_that_is_the_best_is_told_from_the_best_sampled_trial(results):
    worse = with_last(results, 1, sums_select=(3,) + (4,) * 9, sums_report=(4,) * 10)
    (line,) = against(worse)
    assert line.startswith("Trial 1 against DAPO (trial 0): -0.013 on sums_select (better on 0, worse on 1 of 10")


@pytest.mark.parametrize(
    ("ends", "compared"),
    [
        ((0.5, 0.75, 0.625, 0.25), ["Trial 2 against GRPO", "Trial 2 against DAPO", "GRPO (trial 1) against DAPO"]),
        ((0.5, 0.55, 0.625, 0.25), ["Trial 2 against DAPO", "Trial 2 against GRPO"]),
        ((0.5, 0.55, 0.25, 0.625), ["Trial 3 against DAPO", "Trial 3 against GRPO"]),
    ],
)
def test_the_best_sampled_trial_is_told_against_every_control_whichever_is_the_best(
    make_bridge, run_trial, ends, compared
):
    grpo = {"label": "GRPO", "values": {"optimizer.learning_rate": 2e-4}}
    bridge = make_bridge(trials=4, enqueue=[DAPO, grpo], pruner={"name": "none"})
    for end in ends:
        run_trial(bridge, [0.2, 0.3, 0.4, 0.4, end])
    told = [line.split(":")[0] for line in against(read_study(bridge.directory))]
    assert sorted(line.removesuffix(" (trial 0)").removesuffix(" (trial 1)") for line in told) == sorted(compared)


def test_values_that_are_shown_alike_are_no_difference(make_bridge, run_trial):
    """A control that was enqueued with the learning rate that the status shows of the best, in three digits."""
    bridge = make_bridge(
        space=RATE | BOUND, enqueue=[{"label": "DAPO", "values": {"optimizer.learning_rate": 0.00831}}]
    )
    for end in (0.5, 0.625):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, end])
    results = read_study(bridge.directory)
    dapo, other = results.trials

    def rate(of: float) -> TrialResult:
        return replace(other, params=other.params | {"optimizer.learning_rate": of})

    dapo = replace(dapo, params=dapo.params | {"fipo.epsilon_f_high": 0})
    assert confounded(results, rate(0.008314), dapo) is None
    assert "(0.00832 and 0.00831)" in str(confounded(results, rate(0.008316), dapo))


def test_a_control_with_the_other_values_of_an_earlier_best_is_told_against_that_one_too(make_bridge, run_trial):
    """The best pair is confounded; the one that differs in FIPO alone is what the control was enqueued for."""
    bridge = make_bridge(trials=4, space=RATE | BOUND, enqueue=[DAPO])
    for end in (0.5, 0.6, 0.55, 0.4):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, end])
    results = read_study(bridge.directory)
    dapo, best, *others = results.trials
    dapo = replace(dapo, params=dapo.params | {"fipo.epsilon_f_low": 0, "fipo.epsilon_f_high": 0})

    def with_rates(*rates: float) -> StudyResults:
        moved = [replace(each, params=each.params | {"optimizer.learning_rate": rate, "fipo.epsilon_f_high": 0.5})
                 for each, rate in zip((best, *others), rates, strict=True)]  # fmt: skip
        return replace(results, trials=(dapo, *moved))

    confounding = "trial 1 and DAPO differ in optimizer.learning_rate (0.0002 and 0.0001) too"
    told = against_controls(with_rates(2e-4, 1e-4, 1e-4))
    assert [line.split(":")[0].split(", so")[0] for line in told] == [
        "Trial 1 against DAPO (trial 0)", confounding, "Trial 2 against DAPO (trial 0)",
        "trial 2 is the best of those that differ from DAPO in FIPO alone",
    ]  # fmt: skip
    assert against_controls(with_rates(2e-4, 1e-4, 1e-4), of=2) == told[2:]
    for number in (0, 1):  # of the control, and of the best
        (report,) = prepare(with_rates(2e-4, 1e-4, 1e-4), "report", number=number, out=bridge.directory / "report.html")
        assert "<li>Trial 2 against trial 0 (DAPO) on" in report.text and f"<li>T{told[3][1:]}.</li>" in report.text
    assert against_controls(with_rates(2e-4, 3e-4, 1e-4))[2].startswith("Trial 3 against DAPO")
    assert len(against_controls(with_rates(2e-4, 3e-4, 3e-4))) == 2
    assert len(against_controls(with_rates(1e-4, 1e-4, 3e-4))) == 1
    _, first, second, third = with_rates(2e-4, 3e-4, 1e-4).trials
    second = replace(second, params=second.params | {"fipo.epsilon_f_low": 0, "fipo.epsilon_f_high": 0})  # DAPO again
    assert "Trial 3" in against_controls(replace(results, trials=(dapo, first, second, third)))[2]


def test_of_a_best_that_is_dapo_too_it_is_said_that_fipo_has_no_part_and_the_best_fipo_follows(make_bridge, run_trial):
    dapo = {"label": "DAPO", "values": {"optimizer.learning_rate": 1e-4, "fipo.epsilon_f_high": 0}}
    trainer = {"steps": 5, "fipo": {"epsilon_f_low": 0}}
    bridge = make_bridge(trials=4, space=RATE | BOUND, enqueue=[dapo], trainer=trainer)
    for end in (0.5, 0.6, 0.55, 0.4):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, end])
    results = read_study(bridge.directory)

    def told(*values: tuple[float, float]) -> list[str]:
        own = [replace(each, params={"optimizer.learning_rate": rate, "fipo.epsilon_f_high": bound})
               for each, (rate, bound) in zip(results.trials[1:], values, strict=True)]  # fmt: skip
        return against_controls(replace(results, trials=(results.trials[0], *own)))

    too = "trial 1 is DAPO too, so FIPO has no part in this"
    moved = f"{too}; they differ in optimizer.learning_rate (0.0002 and 0.0001)"
    first, *others = told((2e-4, 0), (3e-4, 0.2), (1e-4, 0.3))
    assert first.startswith("Trial 1 against DAPO (trial 0): ")
    assert [line.split(": ")[0] for line in others] == [
        moved, "Trial 2 against DAPO (trial 0)",
        "trial 2 and DAPO differ in optimizer.learning_rate (0.0003 and 0.0001) too, so this is not the effect of FIPO"
        " alone", "Trial 3 against DAPO (trial 0)",
        "trial 3 is the best of those that differ from DAPO in FIPO alone",
    ]  # fmt: skip
    assert told((2e-4, 0), (1e-4, 0.2), (1e-4, 0.3))[3:] == [
        "trial 2 is the best of those that differ from DAPO in FIPO alone"
    ]
    assert told((2e-4, 0), (3e-4, 0), (4e-4, 0))[1:] == [moved]
    assert told((1e-4, 0), (3e-4, 0), (4e-4, 0))[1:] == [too]


def test_where_every_trial_is_dapo_nothing_is_said_of_fipo(make_bridge, run_trial):
    control = {"label": "the paper's rate", "values": {"optimizer.learning_rate": 1e-4}}
    trainer = {"steps": 5, "fipo": {"epsilon_f_low": 0, "epsilon_f_high": 0}}
    bridge = make_bridge(space=RATE, enqueue=[control], trainer=trainer)
    for end in (0.5, 0.6):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, end])
    assert len(against_controls(read_study(bridge.directory))) == 1


def test_controls_that_differ_in_fipo_alone_are_told_against_each_other_whoever_is_the_best(make_bridge, run_trial):
    fipo = {"label": "FIPO", "values": {"optimizer.learning_rate": 1e-4, "fipo.epsilon_f_high": 0.3}}
    dapo = {"label": "DAPO", "values": DAPO["values"] | {"fipo.epsilon_f_low": 0, "fipo.epsilon_f_high": 0}}
    bridge = make_bridge(trials=3, space=RATE | BOUND, enqueue=[dapo, fipo])
    for end in (0.5, 0.75, 0.875):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.4, end])
    results = read_study(bridge.directory)
    best = replace(results.trials[2], params={"optimizer.learning_rate": 2e-4, "fipo.epsilon_f_high": 0.3})
    results = replace(results, trials=(*results.trials[:2], best))
    *_, last = against_controls(results)
    assert last.startswith("FIPO (trial 1) against DAPO (trial 0): +0.250 on")
    two = replace(results.trials[1], number=3, control="FIPO 2", params=results.trials[1].params | {EPSILON: 0.4})
    told = against_controls(replace(results, trials=(*results.trials, two)))
    assert sum("(trial 1)" in line and "(trial 3)" in line for line in told) == 0  # neither is DAPO
    assert sum("FIPO 2 (trial 3) against DAPO" in line for line in told) == 1
    first = replace(results.trials[1], value=1.0)  # a control that is the best stands against the others once
    told = against_controls(replace(results, trials=(results.trials[0], first, best)))
    assert sum("FIPO (trial 1) against DAPO" in line for line in told) == 1
    other = replace(results.trials[1], params=results.trials[1].params | {"optimizer.learning_rate": 3e-4})
    assert not any("FIPO (trial 1) against" in line for line in against_controls(
        replace(results, trials=(results.trials[0], other, best))))  # fmt: skip


def test_a_dapo_that_has_failed_is_enqueued_again_by_the_command_that_is_told(make_bridge, run_trial):
    """After which nothing is told of it. What is no DAPO would be no control."""
    fipo = {"label": "FIPO", "values": {"optimizer.learning_rate": 1e-4, "fipo.epsilon_f_high": 0.3}}
    dapo = {"label": "my DAPO", "values": DAPO["values"] | {"fipo.epsilon_f_low": 0, "fipo.epsilon_f_high": 0}}
    bridge = make_bridge(trials=4, space=RATE | BOUND, enqueue=[dapo, fipo])
    for _ in range(2):
        number = bridge.ask().number
        bridge.fail(number, "killed")
        bridge.finish(number)
    of_dapo, of_fipo = failed_controls(read_study(bridge.directory))
    assert of_fipo.startswith("trial 1 (FIPO) has failed") and of_fipo.endswith(": launch the study anew")
    command, directory, *values, label, name = shlex.split(of_dapo.partition("where you need it: fipo ")[2])
    assert (command, directory, label) == ("enqueue", str(bridge.directory), "--label")
    given = {key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in values)}
    carry_out(bridge, Enqueue(label=name, values=given))
    run_trial(bridge, [0.2, 0.3, 0.4, 0.4, 0.5])
    results = read_study(bridge.directory)
    assert (results.trials[2].control, results.trials[2].state) == ("my DAPO", "COMPLETE")
    assert failed_controls(results) == [of_fipo]
    other = replace(results.trials[2], params=results.trials[2].params | {"optimizer.learning_rate": 2e-4})
    assert failed_controls(replace(results, trials=(*results.trials[:2], other))) == [of_dapo, of_fipo]
    # What is no config is what a trial may have failed for.
    broken = replace(results.trials[1], params={"optimizer.learning_rate": -1.0})
    assert len(failed_controls(replace(results, trials=(results.trials[0], broken)))) == 2


def test_a_control_alone_is_compared_with_nothing(results):
    assert against(replace(results, trials=results.trials[:1])) == []
    pruned = replace(results.trials[0], state="PRUNED", value=None)
    assert against(replace(results, trials=(pruned, *results.trials[1:]))) == []


def confirmed(results, ends: dict[int, list[tuple[float, float | None]]]):
    """The study with trials that confirm those of `ends`, each with its accuracies on the sets at its end, or none."""
    trials = list(results.trials)
    for number, each in ends.items():
        for seed, (select, report) in enumerate(each, start=1):
            accuracies = {"sums_select": select, "sums_report": report}
            last = trials[number].evaluations[-1]
            known = [one for one in last.scores if accuracies[one.name] is not None]
            scores = tuple(one.model_copy(update={"accuracy": accuracies[one.name]}) for one in known)
            evaluations = (last.model_copy(update={"scores": scores}),)
            own = replace(trials[number], number=len(trials), confirms=number, control=None, value=select)
            own = replace(own, beside={**own.beside, "seed": seed})
            trials.append(replace(own, evaluations=evaluations))
    return replace(results, trials=tuple(trials))


def test_confirmed_configurations_are_told_against_confirmed_controls_on_both_sets(results):
    again = confirmed(results, {1: [(0.6, 0.5), (0.7, 0.6)], 0: [(0.5, 0.4), (0.5, 0.6)]})
    # Seed by seed 0.1 and 0.2 on the first set, 0.1 and 0 on the second.
    assert against(again) == [
        "Trial 1 against DAPO (trial 0), over 2 fresh seeds of both, paired: +0.150 ±0.050 on sums_select/avg@8"
        " (p = 0.20), +0.050 ±0.050 on sums_report/avg@8 (p = 0.50)"
    ]


def test_the_highest_of_several_means_over_fresh_seeds_is_said_to_be_a_little_lucky(results):
    line = "Trial 1 has the highest of 2 means over fresh seeds, so a little of that is luck again"
    assert line in verdict(confirmed(results, {1: [(0.6, 0.5), (0.7, 0.6)], 0: [(0.5, 0.4), (0.5, 0.6)]}))
    for ends in ({1: [(0.6, 0.5), (0.7, 0.6)]}, {1: [(0.6, 0.5)], 0: [(0.6, 0.5)]}):  # a single one, and equals
        assert not any("highest of" in each for each in verdict(confirmed(results, ends)))


def test_a_set_that_fewer_seeds_were_evaluated_on_does_not_lower_the_number_of_seeds(results):
    ends = {1: [(0.6, 0.5), (0.7, 0.6), (0.7, None)], 0: [(0.5, 0.4), (0.5, 0.6), (0.5, 0.6)]}
    assert "over 3 fresh seeds of both" in against(confirmed(results, ends))[0]


def test_the_mean_over_fresh_seeds_is_told_on_the_sets_that_chose_nothing_too(results):
    again = confirmed(results, {1: [(0.6, 0.5), (0.7, 0.6)], 0: [(0.5, None)]})
    assert seed_means(again) == [
        "Over 2 fresh seeds: sums_select/avg@8 0.650 ±0.050 of trial 1, length 20.0;"
        " only reported: sums_report/avg@8 0.550 ±0.050",
        "Over 1 fresh seed: sums_select/avg@8 0.500 of trial 0 (DAPO), length 20.0",
    ]


def test_the_length_beside_a_mean_over_seeds_is_of_the_same_runs(results):
    again = confirmed(results, {1: [(0.6, 0.5), (0.7, 0.6)]})
    lengths, trials = iter((10.0, 14.0)), []
    for trial in again.trials:
        if trial.confirms is not None:
            last, length = trial.evaluations[-1], next(lengths)
            scores = tuple(each.model_copy(update={"mean_length": length}) for each in last.scores)
            trial = replace(trial, evaluations=(*trial.evaluations[:-1], last.model_copy(update={"scores": scores})))
        trials.append(trial)
    (line,) = seed_means(replace(again, trials=tuple(trials)))
    assert ", length 12.0;" in line
    (told,) = json.loads(as_json(replace(again, trials=tuple(trials))))["confirmed"]
    assert told["mean_length"] == 12.0


def test_seeds_that_agree_are_said_to_and_have_no_error_of_zero(results):
    (line,) = against(confirmed(results, {1: [(1.0, 0.5)] * 2, 0: [(1.0, 0.6), (1.0, 0.4)]}))
    assert "+0.000 on sums_select/avg@8 (the same with every seed), +0.000 ±0.100 on sums_report/avg@8" in line


def test_a_control_without_seeds_of_its_own_is_told_problem_by_problem(results):
    (line,) = against(confirmed(results, {1: [(0.6, 0.5), (0.7, 0.6)], 0: [(0.5, 0.5)]}))
    assert line.startswith("Trial 1 against DAPO (trial 0): ")


@pytest.mark.parametrize(
    ("space", "values", "keys"),
    [
        (RATE | BOUND, {"optimizer.learning_rate": 1e-4, "fipo.epsilon_f_high": 0}, "optimizer.learning_rate"),
        (BOUND, {"optimizer.learning_rate": 1e-4, "fipo.epsilon_f_high": 0}, "optimizer.learning_rate"),
        (BOUND, {"fipo.epsilon_f_high": 0}, None),  # FIPO alone
        (RATE, {"optimizer.learning_rate": 1e-4}, None),  # FIPO is the same
        # Of the keys under fipo those of PPO and DAPO are not FIPO's own.
        (BOUND | KL, {"fipo.epsilon_f_high": 0, "fipo.kl_coef": 0}, "fipo.kl_coef"),
        (BOUND, {"fipo.epsilon_f_high": 0, "fipo.clip_low": 0.1, "fipo.safety_threshold": 9}, "fipo.clip_low"),
        (BOUND, {"fipo.epsilon_f_high": 0, "fipo.half_life": 8, "fipo.filtering": False}, None),
        (KL, {"fipo.kl_coef": 0}, None),  # FIPO is the same
    ],
)
def test_what_the_control_differs_in_beside_fipo_is_told(make_bridge, run_trial, space, values, keys):
    bridge = make_bridge(space=space, enqueue=[{"label": "DAPO", "values": values}])
    for end in (0.5, 0.625):
        run_trial(bridge, [0.2, 0.3, 0.4, 0.5, end])
    given = few_digits(float(values[keys])) if keys else None
    told = [line for line in verdict(read_study(bridge.directory)) if "too" in line]
    said = rf"trial 1 and DAPO differ in {keys} \(\S+ and {given}\) too, so this is not the effect of FIPO alone"
    assert len(told) == (keys is not None) and all(re.fullmatch(said, line) for line in told)
