"""avg@k, cons@k, pass@k against their definitions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.batches import changed
from trainer.config import EvaluationSet, TrainerConfig
from trainer.evaluate import (
    avg_at_k,
    cons_at_k,
    evaluate_set,
    pass_at_k,
    problem_error,
    sampling_error,
    whole,
)
from trainer.policy import load_policy
from trainer.problems import Problem
from trainer.ranks import ALONE
from trainer.rollout import Request, Response, TransformersSampler


def test_avg_at_k_is_the_mean() -> None:
    assert avg_at_k(np.array([[1, 0], [1, 1]])) == 0.75


def test_errors_cover_what_they_say() -> None:
    """Over many draws, the spread of avg@k is the stated error: samples at fixed problems, problems altogether."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 1.0, size=30)
    fixed = [rng.random((30, 8)) < p[:, None] for _ in range(3000)]
    assert np.std([avg_at_k(c) for c in fixed]) == pytest.approx(
        np.sqrt(np.mean([sampling_error(c) ** 2 for c in fixed])), rel=0.05
    )
    fresh = [rng.random((30, 8)) < rng.beta(0.5, 1.0, size=(30, 1)) for _ in range(3000)]
    assert np.std([avg_at_k(c) for c in fresh]) == pytest.approx(
        np.sqrt(np.mean([problem_error(c) ** 2 for c in fresh])), rel=0.05
    )


def test_errors_that_cannot_be_known_are_none() -> None:
    assert sampling_error(np.array([[1], [0]])) is None
    assert problem_error(np.array([[1, 0]])) is None


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4), st.integers(1, 5))
def test_pass_at_k_is_the_mean_over_all_subsets(correct: list[list[bool]], k: int) -> None:
    expected = np.mean([np.mean([any(s) for s in itertools.combinations(row, k)]) for row in correct])
    assert pass_at_k(np.array(correct), k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 4])
def test_pass_at_k_refuses_a_k_without_samples(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k = {k} must be within 1\.\.3"):
        pass_at_k(np.ones((2, 3)), k)


@pytest.mark.parametrize(
    ("votes", "average", "first"),
    [
        (["7", "7", "8"], 1.0, 1.0),
        (["8", "7", "8"], 0.0, 0.0),
        (["8", "7"], 0.5, 0.0),
        (["7", "8"], 0.5, 1.0),
        ([None, None, "7"], 1.0, 1.0),  # no answer is no vote
        ([None, None], 0.0, 0.0),
        (["", "", "7"], 1.0, 1.0),  # nor is an empty box
    ],
)
def test_cons_at_k(votes: list[str | None], average: float, first: float) -> None:
    assert cons_at_k([votes], ["7"]) == average
    assert cons_at_k(np.array([votes], dtype=object), np.array(["7"]), ties="first") == first


def test_every_outcome_is_kept_and_adds_up_to_the_score(small_config: TrainerConfig) -> None:
    """Also: all problems and samples are drawn in one call."""
    policy, config = load_policy(small_config.model), changed(small_config, "evaluation", top_p=1.0)
    sampler = CountingSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    problems = [Problem(f"{i}+1=", str(i % 9)) for i in range(30)]
    each = EvaluationSet(name="aime", path="", samples=32)
    score, outcomes = whole(evaluate_set(sampler, policy, ALONE, each, problems, config=config, step=0, races=False))
    assert sampler.asked == [30 * 32]
    assert outcomes.select("problem", "sample").rows() == list(itertools.product(range(30), range(32)))
    correct = outcomes["correct"].to_numpy().reshape(30, 32)
    assert tuple(correct.sum(1).tolist()) == score.solved and score.accuracy == avg_at_k(correct) > 0
    assert outcomes["length"].mean() == pytest.approx(score.mean_length)
    assert 1 - outcomes["finished"].mean() == pytest.approx(score.truncated)
    right = outcomes.filter("correct")
    assert right["prediction"].to_list() == [str(i % 9) for i in right["problem"].to_list()]
    assert outcomes["prediction"].null_count() > 0 and set(outcomes["set"]) == {"aime"}


class CountingSampler(TransformersSampler):
    def sample(self, requests: Sequence[Request], **settings: object) -> list[Response]:
        self.asked = [*getattr(self, "asked", []), len(requests)]
        return super().sample(requests, **settings)
