"""The numbers of a step, worked out by hand for a batch of which no two are alike."""

from __future__ import annotations

import numpy as np

from trainer.groups import Batch
from trainer.metrics import batch_metrics, score_metrics
from trainer.problems import Problem
from trainer.records import SetScore
from trainer.rollout import Response


def test_mean_quartiles_and_shares_are_of_all_responses_trained_on() -> None:
    """Two, three and seven tokens, of which the longest was cut."""
    group = [
        Response((2,), np.zeros(length, np.int32), np.zeros(length, np.float32), length < 7) for length in (2, 3, 7)
    ]
    metrics = batch_metrics(
        Batch(
            groups=[group], problems=[Problem("1+1=", "2")], advantages=[[0.0] * 3], rewards=[[1.0, 1.0, -1.5]],
            sampled_batches=5, sampled_tokens=400, sampled_accuracy=0.4, sampled_length=10.0,
        )
    )  # fmt: skip
    assert metrics == {
        "sampled_batches": 5,
        "groups_kept": 1,
        "rollout/accuracy": 0.4,
        "rollout/length_mean": 10,
        "response_length/min": 2,
        "response_length/q25": 2.5,
        "response_length/median": 3,
        "response_length/q75": 5,
        "response_length/max": 7,
        "response_length/mean": 4,
        "response_length/truncated": 1 / 3,
        "reward/mean": 0.5 / 3,
    }


def test_an_evaluation_has_the_papers_names() -> None:
    score = SetScore(
        name="aime_2024", samples=32, solved=(0,), accuracy=0.1, sampling_error=None, problem_error=None, cons=0.2,
        pass_at_k=0.3, mean_length=9.0, length_quantiles=(1, 2, 3, 4, 5), truncated=0.4,
    )  # fmt: skip
    assert score_metrics(score) == {
        "aime_2024/avg@32": 0.1,
        "aime_2024/cons@32": 0.2,
        "aime_2024/pass@32": 0.3,
        "aime_2024/length_mean": 9.0,
    }
