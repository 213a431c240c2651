"""What a study has taken and what it was spared, on real study directories."""

from __future__ import annotations

from dataclasses import replace

from study.assignment import Report
from study.costs import costs, spared_by_pruning
from study.results import collect, read_study
from study.spec import Budget, Resources

GOOD = [0.2, 0.3, 0.4, 0.5, 0.6]


def test_what_was_spent_counts_running_trials_and_pruning_what_the_finished_ones_were_spared(make_bridge, run_trial):
    bridge = make_bridge(pruner={"name": "median", "n_startup_trials": 1})
    run_trial(bridge, GOOD)
    run_trial(bridge, [0.2, 0.1])
    run_trial(bridge, [0.2, 0.9], finish=False)
    results = read_study(bridge.directory)
    assert costs(results) == (
        "took 0.00833 core-hours, 3,000 tokens sampled in training; pruning spared 37.5 % of the steps of the"
        " trials that the pruner judged"
    )
    gpus = results.spec.model_copy(update={"resources": Resources(workers=4, gpus_per_worker=2)})
    assert costs(collect(bridge.directory, gpus, bridge.study.trials)).startswith("took 0.0667 GPU-hours, ")
    limited = gpus.model_copy(update={"budget": Budget(gpu_hours=30_000)})
    assert costs(replace(results, spec=limited)).startswith("took 0.0667 of 30,000 GPU-hours, ")
    assert costs(replace(results, trials=results.trials[2:])) == (
        "took 0.00139 core-hours, 500 tokens sampled in training"
    )
    assert costs(replace(results, trials=())) is None


def test_the_pruner_has_spared_nothing_of_a_trial_that_collapsed_or_was_stopped_by_hand(make_bridge, run_trial):
    bridge = make_bridge()
    bridge.stop(run_trial(bridge, [0.2], finish=False))
    bridge.finish(0)
    number = bridge.ask().number
    assert bridge.report(number, Report(5, 0.2, collapsed="collapsed: it fell"))
    bridge.finish(number)
    assert spared_by_pruning(read_study(bridge.directory)) is None
    run_trial(bridge, GOOD)
    assert spared_by_pruning(read_study(bridge.directory)) == 0.0
