"""What a launch prints, on real study directories."""

from __future__ import annotations

import io
import itertools
import json
import re
from dataclasses import replace
from datetime import datetime

import pytest
from rich.console import Console

from study.costs import costs, spared_by_pruning
from study.display import Display, conclusion
from study.ending import note_ending
from study.lock import ROOM_AGAIN, Driver
from study.results import read_study
from study.space import few_digits
from study.tables import as_json, one_line, trial_table, undriven
from study.time_left import last_evaluations

GOOD = [0.2, 0.3, 0.4, 0.5, 0.6]


def shown_table(directory, *, width: int = 160) -> str:
    results, console = read_study(directory), Console(file=io.StringIO(), width=width)
    console.print(trial_table(results, results.trials, console))
    return console.file.getvalue()


@pytest.fixture
def bridge(make_bridge, run_trial):
    bridge = make_bridge(
        pruner={"name": "median", "n_startup_trials": 1},
        enqueue=[{"label": "[bold]DAPO", "values": {"optimizer.learning_rate": 1e-3}}],
    )
    run_trial(bridge, GOOD)
    run_trial(bridge, [0.2, 0.1])
    run_trial(bridge, [0.2, 0.9], finish=False)
    return bridge


def test_the_table_shows_state_step_accuracy_errors_length_and_values(bridge):
    shown = shown_table(bridge.directory)
    rows = shown.splitlines()[2:]
    assert "sums_select/avg@8" in shown and "±sampling ±problems" in shown
    for words in ("0 *", "COMPLETE [bold]DAPO", "20/20", "0.600 ±0.011 ±0.022", "20.0", "0.001"):
        assert words in rows[0]
    assert "PRUNED at 5" in rows[1] and "5/20" in rows[1]
    assert "RUNNING" in rows[2]


def test_a_narrow_table_leaves_out_swept_values_before_it_cuts_the_rest(bridge):
    shown = shown_table(bridge.directory, width=70)
    assert max(map(len, shown.splitlines())) <= 70
    assert "PRUNED at 5" in shown and "0.600 ±0.011 ±0.022" in shown
    *rows, told = shown.splitlines()
    assert "learning" not in "".join(rows) and told.strip() == "not shown for want of width: learning_rate"
    assert "not shown" not in shown_table(bridge.directory)


def test_plain_lines_tell_every_change_once(bridge):
    console = Console(file=io.StringIO(), width=160)
    display = Display(console)
    display.doing("Starting Ray")
    all_of_them = read_study(bridge.directory)
    snapshots = itertools.chain([replace(all_of_them, trials=())], itertools.repeat(all_of_them))
    display.running(bridge.directory, lambda: next(snapshots), 1)
    display.ended(None)
    first, *lines = console.file.getvalue().splitlines()
    assert first == "Starting Ray"
    assert "1 trial at a time (concurrency is 2, and no more fit)" in lines[0]
    assert [line.split("  ")[1] for line in lines[1:]] == ["COMPLETE", "PRUNED at step 5", "STOPPED"]
    assert "2 of 4 trials" in lines[1]


def test_that_more_would_fit_is_told_with_the_command_while_trials_are_left_to_fill_it(bridge):
    console = Console(file=io.StringIO(), width=160)
    results = read_study(bridge.directory)
    for left in (2, 3):
        spec = results.spec.model_copy(update={"trials": results.ended + left})
        display = Display(console)
        display.running(bridge.directory, lambda spec=spec: replace(results, spec=spec), 4)
        display.ended(None)
    said = [line for line in console.file.getvalue().splitlines() if line.startswith("Study")]
    assert "2 trials at a time; each" in said[0]
    assert f"2 trials at a time (4 fit: fipo set {bridge.directory} concurrency=4); each" in said[1]


def test_the_last_word_is_an_error_in_one_line():
    console, errors = (Console(file=io.StringIO(), width=20) for _ in range(2))
    Display(console, errors).last_word("the head [b] does not answer; go on with: fipo resume x")
    assert console.file.getvalue() == ""
    assert errors.file.getvalue() == "the head [b] does not answer; go on with: fipo resume x\n"


def test_what_ended_before_a_resume_is_counted_and_not_told_again(bridge):
    console = Console(file=io.StringIO(), width=160)
    display = Display(console)
    display.running(bridge.directory, lambda: read_study(bridge.directory), 1)
    display.ended(None)
    _, before, *lines = console.file.getvalue().splitlines()
    assert before == "2 trials have ended before"
    assert [line.split("  ")[1] for line in lines] == ["STOPPED"]  # at the end of a launch nothing runs any more


def test_one_trial_that_has_ended_before_is_one(make_bridge, run_trial):
    bridge, console = make_bridge(), Console(file=io.StringIO(), width=160)
    run_trial(bridge, GOOD)
    display = Display(console)
    display.running(bridge.directory, lambda: read_study(bridge.directory), 2)
    display.ended(None)
    assert console.file.getvalue().splitlines()[1] == "1 trial has ended before"


def test_that_the_study_waits_is_told_once_and_the_end_of_a_launch_is_no_news_of_it(bridge):
    console = Console(file=io.StringIO(), width=160)
    display, results = Display(console), read_study(bridge.directory)
    waiting = replace(results, driver=Driver("here", 1, waits="no room"))
    shown = dict.fromkeys(range(3), ("", 0))
    for each in (results, waiting, waiting, results, waiting, replace(waiting, driver=None)):
        display._print_changes(each, shown)
    told = [line for line in console.file.getvalue().splitlines() if not line.startswith("trial")]
    assert told == ["no room", ROOM_AGAIN, "no room"]


def test_a_last_evaluation_that_takes_a_while_is_told_once_when_it_begins(make_bridge, run_trial):
    bridge = make_bridge()
    run_trial(bridge, GOOD[:4], finish=False)  # evaluated at steps 0 to 15, the last written step being the 15th
    results = read_study(bridge.directory)
    assert last_evaluations(results) == {}
    (trial,) = results.trials
    with (trial.directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 19}\n')
    slow = [each.model_copy(update={"seconds": each.seconds + 9}) for each in trial.evaluations]
    score = slow[-1].scores[0].model_copy(update={"mean_length": 60.0})  # three times as long as at first
    slow[-1] = slow[-1].model_copy(update={"scores": (score,)})
    results = replace(results, trials=(replace(trial, evaluations=tuple(slow)),))
    assert last_evaluations(results) == {0: pytest.approx(9 * 3 + 1)}
    console = Console(file=io.StringIO(), width=160)
    display = Display(console)
    display.running(bridge.directory, lambda: results, 2)
    display.ended(None)
    assert console.file.getvalue().count("trial 0 is at its last step and evaluation, about 28 s") == 1
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    display = Display(console)
    display.running(bridge.directory, lambda: results, 2)
    display.ended(None)
    assert "about 28 s" in console.file.getvalue()


def test_a_study_that_nobody_drives_says_how_to_go_on_while_something_is_left(bridge):
    results = read_study(bridge.directory)
    assert undriven(results) is None  # this process does
    assert undriven(results.at_rest()) == (
        f"No process drives the study and 2 trials are left; go on with: fipo resume {bridge.directory}"
    )
    note_ending(bridge.directory, "budget.hours = 2 is over;\na resume has as many again")
    stopped, why = undriven(results.at_rest()), " budget.hours = 2 is over; a resume has as many again"
    when = r"[-\d]+T[:\d]+[+-][:\d]+"
    assert re.fullmatch(rf"The study ended early \({when}{why}\) and 2 trials are left; go on .*", stopped)
    assert json.loads(as_json(results))["ending"].endswith(why)
    note_ending(bridge.directory, None)
    assert json.loads(as_json(results))["ending"] is None
    assert undriven(replace(results.at_rest(), trials=results.trials[:2], spec=results.spec.model_copy(
        update={"trials": 2}))) is None  # fmt: skip


def test_the_conclusion_names_the_best_and_the_next_two_commands(bridge):
    lines = "\n".join(conclusion(read_study(bridge.directory), bridge.directory))
    assert "All trials took 0.00833 core-hours" in lines
    for words in ("Best: trial 0", "0.600 ±0.011 ±0.022", f"fipo dashboard {bridge.directory}", "fipo export"):
        assert words in lines


def test_the_last_line_of_a_study_that_ended_early_says_how_it_goes_on(bridge):
    note_ending(bridge.directory, "stopped by hand")
    results = read_study(bridge.directory).at_rest()
    *_, last = conclusion(results, bridge.directory)
    assert last.startswith("The study ended early (") and last.endswith(f"go on with: fipo resume {bridge.directory}")
    none = [replace(each, state="PRUNED", value=None) if each.state == "COMPLETE" else each for each in results.trials]
    *_, before, last = conclusion(replace(results, trials=tuple(none)), bridge.directory)
    assert before.startswith("No trial is COMPLETE") and "fipo resume" in last


def test_the_base_model_reports_in_steps_of_a_tenth():
    console = Console(file=io.StringIO(), width=160)
    display = Display(console)
    for percent in range(101):
        display.preparing(percent / 100, "supervised stage")
    display.close()
    assert len(console.file.getvalue().splitlines()) == 11


def test_json_holds_every_trial_with_its_latest_evaluation(bridge):
    data = json.loads(as_json(read_study(bridge.directory)))
    assert data["best"] == 0
    assert [trial["state"] for trial in data["trials"]] == ["COMPLETE", "PRUNED", "RUNNING"]
    assert data["trials"][0]["evaluation"]["scores"][0]["accuracy"] == 0.6
    assert data["trials"][1]["pruned_at"] == 5
    assert data["usage"] == {"seconds": 30.0, "gpu_hours": 0.0, "tokens": 3000}
    assert data["spared_by_pruning"] == 15 / 40
    assert spared_by_pruning(replace(read_study(bridge.directory), trials=())) is None
    assert data["confirmed"] == [] and data["left"]["seconds"] > 0 and data["left"]["budget"] is None
    assert datetime.fromisoformat(data["trials"][0]["ended"]).tzinfo is not None
    assert data["directory"] == str(bridge.directory.absolute())
    at_rest = json.loads(as_json(read_study(bridge.directory).at_rest()))
    assert [trial["state"] for trial in at_rest["trials"]] == ["COMPLETE", "PRUNED", "STOPPED"]


def test_a_racing_study_tells_the_k_of_each_accuracy_and_what_racing_saved(make_bridge, run_trial):
    sets = [{"name": "sums_select", "path": "embedded:select", "samples": 32, "every": 5, "first_look": 8}]
    bridge = make_bridge(
        pruner={"name": "aime"}, metric="avg@k", trainer={"steps": 20, "evaluation": {"sets": sets}}, trials=6
    )
    assert costs(read_study(bridge.directory)) is None
    run_trial(bridge, GOOD)  # five evaluations of ten problems with eight samples each
    results = read_study(bridge.directory)
    assert costs(results).endswith("; racing evaluations drew 400 of the 1,600 responses of whole ones (75.0 % spared)")
    assert json.loads(as_json(results))["evaluation_responses"] == {"drawn": 400, "whole": 1600}
    assert "0.600 ±0.011 ±0.022 (k = 8)" in shown_table(bridge.directory)
    assert "avg@32 0.600 ±0.011 ±0.022 (k = 8), length" in one_line(results, results.trials[0])


def test_values_beside_the_space_are_shown_of_the_trial_that_has_them(make_bridge, run_trial):
    bridge = make_bridge(enqueue=[{"label": "DAPO", "values": {"fipo.epsilon_f_high": 0.0}}])
    run_trial(bridge, GOOD)
    run_trial(bridge, GOOD)
    control, sampled = read_study(bridge.directory).trials
    assert one_line(read_study(bridge.directory), control).endswith("  not in space: fipo.epsilon_f_high 0")
    assert sampled.beside == {} and "not in space" not in one_line(read_study(bridge.directory), sampled)


def test_what_others_print_does_not_come_between_the_rows_of_the_live_table(bridge, capsys):
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    display = Display(console)

    def snapshot():
        print("a worker's traceback")
        return read_study(bridge.directory)

    display.running(bridge.directory, snapshot, 2)
    display.ended(None)
    assert "PRUNED at 5" in console.file.getvalue()
    assert "traceback" not in console.file.getvalue()
    assert "traceback" in capsys.readouterr().out


WRITTEN = [(1024.0, "1024"), (16.0, "16"), (0.0, "0"), (845.31, "845"), (1e-5, "1e-05"), (None, "null"), (7, "7")]


@pytest.mark.parametrize(("value", "written"), WRITTEN)
def test_a_swept_value_is_short_and_a_whole_number_is_itself(value, written):
    """1.02e+03 is no value of a grid that has 1024."""
    assert few_digits(value) == written
