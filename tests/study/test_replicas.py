"""The confirmation stage: which trials it adds, and that it survives its driver."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from study.assignment import Report
from study.bridge import Bridge
from study.cli import main
from study.commands import Change, Enqueue, carry_out
from study.controls import is_control
from study.export.provenance import selection_lines
from study.results import read_study
from study.spec import Replicas
from study.tables import as_json, chosen_among, one_line
from study.verdict import equals, passed_over, seed_means, tie, under_way, verdict

RATE = "optimizer.learning_rate"
REPLICAS = {"seeds": 2, "top": 2}
ENDS = [0.5, 0.9, 0.7, 0.1]


def run(bridge: Bridge, end: float) -> int | None:
    """The next trial, with a straight line from 0.2 to `end`."""
    assignment = bridge.ask()
    if assignment is None:
        return None
    for step in range(0, 21, 5):
        if bridge.report(assignment.number, Report(step, 0.2 + (end - 0.2) * step / 20)):
            break
    bridge.finish(assignment.number)
    return assignment.number


def seed_of(bridge: Bridge, number: int) -> int:
    return yaml.safe_load((bridge.directory / f"trials/{number:04d}/config.yaml").read_text())["seed"]


def test_the_best_configurations_are_trained_again_with_other_seeds(make_bridge):
    bridge = make_bridge(replicas=REPLICAS, pruner={"name": "none"}, trainer={"steps": 20, "seed": 5})
    for end in ENDS:
        run(bridge, end)
    assert not bridge.done  # no confirmation is there yet
    for end in (0.6, 0.6, 0.8, 0.8):
        run(bridge, end)
    assert run(bridge, 0.5) is None and bridge.done and bridge.begun == 4
    trials = read_study(bridge.directory).trials
    assert [trial.confirms for trial in trials] == [None] * 4 + [1, 1, 2, 2]
    assert one_line(read_study(bridge.directory), trials[4]).endswith("  seed 6")
    assert [seed_of(bridge, number) for number in range(8)] == [5, 5, 5, 5, 6, 7, 6, 7]
    for trial in trials[4:]:
        assert trial.params == trials[trial.confirms].params


def test_a_choice_that_is_drawn_again_is_one_configuration(make_bridge):
    """The same values with the same seed are the same run once more; a control that a trial repeats is the control."""
    values = [1e-4, 5e-4, 1e-3]
    control = {"label": "control", "values": {RATE: 1e-3}}
    space = {RATE: {"type": "choice", "values": values}}
    bridge = make_bridge(trials=9, space=space, enqueue=[control], replicas=REPLICAS, pruner={"name": "none"})
    while (assignment := bridge.ask()) is not None:
        for step in range(0, 21, 5):
            bridge.report(assignment.number, Report(step, 0.1 * (1 + values.index(assignment.params[RATE]))))
        bridge.finish(assignment.number)
    results = read_study(bridge.directory)
    own = [trial for trial in results.trials if trial.confirms is None]
    first = {value: next(t.number for t in own if t.params[RATE] == value) for value in values}
    assert len(own) == 9 and first[1e-3] == 0
    assert results.repeats == {t.number: first[t.params[RATE]] for t in own if t.number != first[t.params[RATE]]}
    assert sorted(t.confirms for t in results.trials[9:]) == sorted([*first.values()] * 2)
    assert [each.number for each in results.evidence] == [first[value] for value in reversed(values)]
    assert results.planned == results.ended == len(results.trials) == 15
    assert chosen_among(results) == "3 configurations in 9 COMPLETE among 9 trials"
    assert tie(replace(results, trials=tuple(t for t in own if t.params[RATE] == 1e-3))) is None


def test_a_dapo_that_is_enqueued_later_is_a_control_and_takes_no_place_of_the_best(make_bridge):
    """It may be the only one that differs from the best in FIPO alone. A guess at FIPO is a trial like any other."""
    high = "fipo.epsilon_f_high"
    space = {RATE: {"type": "uniform", "low": 1e-4, "high": 1e-2}, high: {"type": "uniform", "low": 0, "high": 1}}
    bridge = make_bridge(
        trials=2, space=space, enqueue=[{"label": "DAPO", "values": {RATE: 1e-3, high: 0}}], pruner={"name": "none"},
        trainer={"steps": 20, "fipo": {"epsilon_f_low": 0}}, replicas={"seeds": 2, "top": 1},
    )  # fmt: skip
    said = carry_out(bridge, Enqueue(label="DAPO faster", values={RATE: 2e-3, high: 0}))
    assert said.endswith("; it is a control, since all its influence weights are 1")
    assert "control" not in carry_out(bridge, Enqueue(label="guess", values={RATE: 2e-3, high: 0.2}))
    for end in (0.5, 0.9, 0.8, 0.4):
        run(bridge, end)
    assert [run(bridge, 0.6) for _ in range(6)] == [4, 5, 6, 7, 8, 9] and bridge.done
    results = read_study(bridge.directory)
    assert [each.control for each in results.trials[:4]] == ["DAPO", "DAPO faster", None, None]
    assert [each.confirms for each in results.trials[4:]] == [2, 2, 1, 1, 0, 0]
    assert (results.ended, results.planned) == (10, 10)
    told = [line.partition(",")[0] for line in verdict(results) if " against " in line]
    guess = "Trial 2 (guess) against "
    assert {f"{guess}DAPO (trial 0)", f"{guess}DAPO faster (trial 1)"} <= set(told)
    weights = {"fipo": {"epsilon_f_low": 0, "epsilon_f_high": 0}}  # in a study of DAPO each trial is one
    dapo = results.spec.model_copy(update={"space": {RATE: results.spec.space[RATE]}, "trainer": weights})
    assert [is_control(dapo, each) for each in bridge.study.trials[:2]] == [True, False]


def test_a_control_that_a_sampled_trial_repeats_is_the_control_whichever_came_first(make_bridge):
    """A DAPO that is enqueued where the grid had one as a row; it has its bounds beside the space, as after a search
    for a learning rate."""
    space = {RATE: {"type": "grid", "values": [1e-3, 2e-3]}}
    bridge = make_bridge(
        trials=2, space=space, sampler={"name": "grid"}, pruner={"name": "none"}, replicas={"seeds": 2, "top": 1}
    )
    bounds = {"fipo.epsilon_f_low": 0, "fipo.epsilon_f_high": 0}
    for label in ("DAPO", "again"):
        carry_out(bridge, Enqueue(label=label, values={RATE: 1e-3} | bounds))
    while run(bridge, 0.5) is not None:
        pass
    results = read_study(bridge.directory)
    assert [each.control for each in results.trials[:2]] == ["DAPO", "again"] and results.repeats == {1: 0}
    row = replace(results.trials[2], beside=results.trials[0].beside, params=results.trials[0].params)
    early = replace(results, trials=(*results.trials[:2], row, *results.trials[3:]))
    late = replace(early, trials=(replace(row, number=0), replace(early.trials[0], number=2), *early.trials[3:]))
    assert (early.repeats, late.repeats) == ({1: 0, 2: 0}, {0: 2})


def test_a_number_of_trials_below_those_that_began_leaves_the_confirmations_to_come(make_bridge):
    control = {"label": "control", "values": {RATE: 1e-3}}
    bridge = make_bridge(
        trials=4, enqueue=[control, {"label": "late", "values": {RATE: 2e-3}}], pruner={"name": "none"}
    )
    for end in ENDS[:3]:
        run(bridge, end)
    spec = bridge.spec.model_copy(update={"trials": 2, "replicas": Replicas(seeds=2, top=1)})
    results = replace(read_study(bridge.directory), spec=spec)
    assert (results.ended, results.planned) == (3, 3 + 2 * 3)
    again = Bridge(bridge.study, spec, bridge.directory)
    while run(again, 0.5) is not None:
        pass
    results = replace(read_study(bridge.directory), spec=spec)
    assert again.done and results.ended == results.planned


def test_copies_that_were_confirmed_as_two_are_one_configuration(make_bridge):
    """As studies of earlier versions have them. Each has a seed that the other lacks."""
    bridge = make_bridge(trials=4, replicas=REPLICAS, pruner={"name": "none"})
    for end in (*ENDS, 0.6, 0.6, 0.8, 0.8):
        run(bridge, end)
    results = read_study(bridge.directory)
    assert {trial.confirms for trial in results.trials[4:]} == {1, 2}
    copy = replace(results.trials[2], params=results.trials[1].params)
    kept = (t for t in results.trials if (t.confirms, results.seed(t)) not in ((1, 2), (2, 1)))
    one, *_ = replace(results, trials=tuple(copy if t.number == 2 else t for t in kept)).evidence
    assert (one.number, sorted(one.fresh)) == (1, [1, 2])


def test_of_equal_configurations_the_first_is_confirmed(make_bridge):
    bridge = make_bridge(replicas={"seeds": 2, "top": 1}, pruner={"name": "none"})
    for end in (0.5, 0.9, 0.9, 0.1, 0.9):
        run(bridge, end)
    assert read_study(bridge.directory).trials[4].confirms == 1


def test_the_best_is_the_configuration_with_the_best_mean_over_seeds(make_bridge):
    bridge = make_bridge(replicas=REPLICAS, pruner={"name": "none"})
    for end in (*ENDS, 0.2, 0.4, 0.7, 0.7):
        run(bridge, end)
    results = read_study(bridge.directory)
    assert results.best.number == 2
    best, lucky, unconfirmed = results.evidence[:3]
    assert (best.number, list(best.fresh.values())) == (2, [0.7, 0.7])
    # The run that was chosen for being high is not in its mean.
    assert (lucky.number, lucky.first, list(lucky.fresh.values())) == (1, pytest.approx(0.9), [0.2, 0.4])
    assert lucky.mean == pytest.approx(0.3) and lucky.seed_error == pytest.approx(0.1)
    assert (unconfirmed.mean, unconfirmed.seed_error) == (0.5, None)
    told = json.loads(as_json(results))["confirmed"]
    assert told[0] == {
        "trial": 2, "seeds": 2, "lost": [], "mean": 0.7, "mean_length": None, "seed_error": 0.0, "only_reported": {},
    }  # fmt: skip
    assert [each["trial"] for each in told] == [2, 1]


def test_status_says_whether_settings_differ_beyond_seeds(make_bridge, monkeypatch, capsys):
    bridge = make_bridge(replicas=REPLICAS, pruner={"name": "none"})
    for end in (*ENDS, 0.2, 0.4, 0.7, 0.6):
        run(bridge, end)
    monkeypatch.setattr("sys.argv", ["fipo", "status", str(bridge.directory)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "2 confirmed configurations do not differ beyond the noise of the seed" in shown
    for mean in ("0.650 ±0.050 of trial 2", "0.300 ±0.100 of trial 1"):
        assert f"Over 2 fresh seeds: sums_select/avg@8 {mean}" in shown
    assert "No process drives" not in shown  # all is done


def test_the_controls_of_the_study_file_are_confirmed_beside_the_top(make_bridge, monkeypatch, capsys):
    control = {"label": "slow", "values": {RATE: 1e-5}}
    bridge = make_bridge(enqueue=[control], replicas={"seeds": 2, "top": 1}, pruner={"name": "none"})
    for end in (0.3, 0.9, 0.7, 0.2, 0.8, 0.6, 0.4, 0.5):
        run(bridge, end)
    assert bridge.done
    results = read_study(bridge.directory)
    assert [trial.confirms for trial in results.trials[4:]] == [1, 1, 0, 0]
    assert seed_means(results) == [
        "Over 2 fresh seeds: sums_select/avg@8 0.700 ±0.100 of trial 1",
        "Over 2 fresh seeds: sums_select/avg@8 0.450 ±0.050 of trial 0 (slow)",
    ]


def test_the_first_fresh_seed_of_each_decides_and_is_told(make_bridge):
    """Here it puts the control before a trial whose own run was higher: nothing may call that run the lower."""
    control = {"label": "slow", "values": {RATE: 1e-5}}
    bridge = make_bridge(enqueue=[control], replicas={"seeds": 2, "top": 1}, pruner={"name": "none"})
    for end in (0.8, 0.9, 0.7, 0.2):
        run(bridge, end)
    ends = iter((0.6, 0.6, 0.7, 0.7))
    for _ in range(3):  # both seeds of the trial, one of the control
        run(bridge, next(ends))
    results = read_study(bridge.directory)
    assert [each.number for each in results.evidence[:2]] == [0, 1]
    said = verdict(results)
    assert said[1:3] == [
        "Over 1 fresh seed: sums_select/avg@8 0.700 of trial 0 (slow)",
        "Over 2 fresh seeds: sums_select/avg@8 0.600 (all the same) of trial 1",
    ]
    assert [line for line in said if "highest" in line] == [
        "Trial 0 (slow) has the highest of 2 means over fresh seeds, so a little of that is luck again"
    ]
    assert selection_lines(results, results.trials[0]) == [
        "best of 4 COMPLETE among 4 trials by sums_select/avg@8, by its fresh seeds; the highest of many is high partly"
        " by chance, so judge it by the sets that were only reported",
        "3 of 4 confirmations have ended: which is the best may still change",
        "sums_select/avg@8 over 1 fresh seed 0.7000; the run that was selected, 0.8000, is not among them",
    ]
    assert "selection-corrected" in selection_lines(results, results.trials[1])[-1]  # whose own run is the highest


def test_who_did_as_well_as_a_confirmed_trial_and_is_not_confirmed_is_told(make_bridge):
    """At a tie the earlier trial is confirmed. Whether the others are better no one has tried."""
    control = {"label": "slow", "values": {RATE: 1e-5}}
    bridge = make_bridge(enqueue=[control], trials=5, replicas={"seeds": 2, "top": 1}, pruner={"name": "none"})
    for end in (0.7, 0.9, 0.8, 0.9, 0.9, 0.5, 0.5):
        run(bridge, end)
        assert passed_over(read_study(bridge.directory)) == []  # the control is still to be confirmed
    for end in (0.6, 0.6):
        run(bridge, end)
    results = read_study(bridge.directory).at_rest()
    # Of equals by a single run those that fresh seeds have ranked are none.
    assert [equals(results, results.trials[number]) for number in (3, 4)] == [", with trial 4", ", with trial 3"]
    line = (
        "Trials 3, 4 did as well by a single run as a configuration that was confirmed, and were not trained again:"
        f" fipo set {bridge.directory} replicas.top=3, then fipo resume {bridge.directory}"
    )
    assert (
        passed_over(results) == [line] and line in verdict(results) and line in selection_lines(results, results.best)
    )
    assert passed_over(replace(results, spec=results.spec.model_copy(update={"replicas": None}))) == []
    assert "replicas.top is 3" in carry_out(bridge, Change(values={"replicas.top": 3}))
    for end in (0.9, 0.9, 0.9, 0.9):
        run(bridge, end)
    assert bridge.done and passed_over(read_study(bridge.directory)) == []


def test_while_seeds_are_still_to_come_the_best_may_change_and_then_what_they_say_is_handed_on(make_bridge):
    bridge = make_bridge(replicas={"seeds": 2, "top": 2}, pruner={"name": "none"})
    for end in ENDS:
        run(bridge, end)
    assert under_way(read_study(bridge.directory)) == []
    for ended, end in enumerate((0.8, 0.7, 0.6), start=1):
        run(bridge, end)
        results = read_study(bridge.directory)
        line = f"{ended} of 4 confirmations {'has' if ended == 1 else 'have'} ended: which is the best may still change"
        assert under_way(results) == [line] and line in verdict(results)
        assert line in selection_lines(results, results.best)
    run(bridge, 0.4)
    results = read_study(bridge.directory)
    assert under_way(results) == []
    (said,) = [each for each in selection_lines(results, results.best) if "confirmed configurations" in each]
    assert said.startswith("the 2 confirmed configurations do not differ beyond the noise of the seed")
    unconfirmed = selection_lines(results, results.trials[0])
    assert results.trials[0].number not in {each.number for each in results.evidence if each.tested}
    assert not any("confirmed configurations" in each for each in unconfirmed)


def test_a_best_control_leaves_the_top_to_the_others_and_is_confirmed_once(make_bridge):
    control = {"label": "slow", "values": {RATE: 1e-5}}
    bridge = make_bridge(enqueue=[control], replicas={"seeds": 2, "top": 1}, pruner={"name": "none"})
    for end in (0.9, 0.3, 0.7, 0.2):
        run(bridge, end)
    while run(bridge, 0.5) is not None:
        pass
    assert [trial.confirms for trial in read_study(bridge.directory).trials[4:]] == [2, 2, 0, 0]


def test_a_confirmation_is_never_pruned(make_bridge):
    replicas = {"seeds": 2, "top": 1}
    bridge = make_bridge(replicas=replicas, pruner={"name": "median", "n_startup_trials": 2})
    for end in (0.8, 0.9, 0.9, 0.9):
        run(bridge, end)
    assert run(bridge, 0.0) == 4
    assert read_study(bridge.directory).trials[4].state == "COMPLETE"


def test_a_new_driver_adds_no_confirmation_twice(make_bridge):
    bridge = make_bridge(replicas=REPLICAS, pruner={"name": "none"})
    for end in (*ENDS, 0.8):
        run(bridge, end)
    bridge.ask()
    bridge = Bridge(bridge.study, bridge.spec, bridge.directory)
    while run(bridge, 0.8) is not None:
        pass
    assert [trial.confirms for trial in read_study(bridge.directory).trials] == [None] * 4 + [1, 1, 2, 2]


def test_confirmations_begin_when_nothing_else_runs(make_bridge):
    bridge = make_bridge(trials=2, replicas={"seeds": 2, "top": 1}, pruner={"name": "none"})
    slow = bridge.ask().number
    run(bridge, 0.9)
    assert bridge.ask() is None and not bridge.done
    for step in range(0, 21, 5):
        bridge.report(slow, Report(step, 0.3))
    bridge.finish(slow)
    assert run(bridge, 0.9) == 2


def test_a_control_with_a_seed_of_its_own_is_confirmed_with_others(make_bridge):
    control = {"label": "other seed", "values": {"seed": 1}}
    bridge = make_bridge(
        trials=1,
        enqueue=[control],
        replicas={"seeds": 2, "top": 1},
        pruner={"name": "none"},
        sampler={"name": "random"},
    )
    for _ in range(3):
        run(bridge, 0.9)
    assert [seed_of(bridge, number) for number in range(3)] == [1, 2, 3]


def test_what_a_control_has_beside_the_space_is_confirmed_with_it(make_bridge):
    control = {"label": "no clip-higher", "values": {"fipo.clip_high": 0.2}}
    bridge = make_bridge(trials=1, enqueue=[control], replicas={"seeds": 2, "top": 1}, sampler={"name": "random"})
    for _ in range(3):
        number = run(bridge, 0.9)
        config = yaml.safe_load((bridge.directory / f"trials/{number:04d}/config.yaml").read_text())
        assert config["fipo"]["clip_high"] == 0.2
    assert bridge.done and read_study(bridge.directory).trials[2].confirms == 0


def test_a_configuration_that_lost_seeds_says_so_and_stands_behind_whole_ones(make_bridge):
    """The mean of those that survived is no mean of all: here the highest survives alone."""
    bridge = make_bridge(replicas={"seeds": 3, "top": 3}, pruner={"name": "none"})
    for end in (0.5, 0.9, 0.7, 0.1):
        run(bridge, end)
    for end in (0.95, "collapses", "fails", 0.6, 0.7, 0.65):
        end_with(bridge, end)
    for end in ("collapses", "fails", "stopped"):
        end_with(bridge, end)
    assert bridge.done
    results = read_study(bridge.directory)
    assert [each.number for each in results.evidence] == [2, 1, 3, 0] and results.best.number == 2
    assert seed_means(results) == [
        "Over 3 fresh seeds: sums_select/avg@8 0.650 ±0.029 of trial 2",
        "Over 1 of 3 fresh seeds (1 collapsed, 1 failed): sums_select/avg@8 0.950 of trial 1",
        "Over 0 of 3 fresh seeds (1 collapsed, 1 failed, 1 stopped by hand): sums_select/avg@8 not known of trial 0",
    ]
    told = json.loads(as_json(results))["confirmed"]
    assert [(each["trial"], each["seeds"], each["lost"]) for each in told] == [
        (2, 3, []),
        (1, 1, ["collapsed", "failed"]),
        (0, 0, ["collapsed", "failed", "stopped by hand"]),
    ]
    assert [each["mean"] for each in told] == [pytest.approx(0.65), pytest.approx(0.95), None]
    chosen = selection_lines(results, results.trials[1])
    assert chosen[1] == (
        "sums_select/avg@8 over 1 of 3 fresh seeds (1 collapsed, 1 failed) 0.9500; the run that was selected, 0.9000,"
        " is not among them"
    )
    assert "rank 2 of" in chosen[0]


def end_with(bridge: Bridge, end: float | str) -> None:
    """The next trial, with a straight line to `end`, or without a metric."""
    if not isinstance(end, str):
        run(bridge, end)
        return
    number = bridge.ask().number
    assert bridge.report(number, Report(5, 0.2, collapsed="collapsed: it fell" if end == "collapses" else None)) == (
        end == "collapses"
    )
    if end == "fails":
        bridge.fail(number, "loss is nan")
    if end == "stopped":
        bridge.stop(number)
    bridge.finish(number)


def test_confirmations_are_planned_as_soon_as_it_is_known_that_they_will_come(make_bridge):
    control = {"label": "slow", "values": {RATE: 1e-5}}
    bridge = make_bridge(trials=3, enqueue=[control], replicas={"seeds": 2, "top": 1}, pruner={"name": "none"})
    planned = [read_study(bridge.directory).planned]
    for end in ("fails", "collapses", 0.5, 0.5, 0.5):
        end_with(bridge, end)
        planned.append(read_study(bridge.directory).planned)
        told = json.loads(as_json(read_study(bridge.directory)))
        assert told["finished"] == (len(planned) == 6)
    # Of three trials one is confirmed and the control, each twice; the control fails; of the others one is left.
    assert planned == [7, 5, 5, 5, 5, 5] and bridge.done
