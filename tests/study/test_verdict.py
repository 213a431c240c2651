"""What is said of the best trial, on real study directories."""

from __future__ import annotations

import pytest

from study.display import conclusion
from study.results import read_study
from study.verdict import tied, verdict


@pytest.mark.parametrize(
    ("end", "remedy"), [(0.5, "train longer or raise the learning rate"), (1.0, "harder problems")]
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
    assert best.startswith("Best: trial 1") and "the highest of 2 on 10 problems" in warning
