"""Rewards and group-normalised advantages."""

from __future__ import annotations

import numpy as np

from trainer.advantages import group_advantages, informative, rewards, soft_overlong_penalty


def test_advantages_are_centred_and_scaled_within_each_group() -> None:
    advantages = group_advantages(np.random.default_rng(0).normal(3, 5, size=(6, 8)))
    np.testing.assert_allclose(advantages.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(advantages.std(1, ddof=1), 1, rtol=1e-5)


def test_equal_rewards_have_no_advantage_and_are_filtered() -> None:
    assert group_advantages(np.ones((1, 4))).tolist() == [[0, 0, 0, 0]]
    assert informative(np.array([[True, True], [False, False], [True, False]])).tolist() == [False, False, True]


def test_overlong_penalty_falls_linearly_over_the_buffer() -> None:
    lengths = np.array([10, 80, 90, 100])
    assert soft_overlong_penalty(lengths, limit=100, buffer=20, penalty=1.0).tolist() == [0, 0, -0.5, -1.0]
    assert soft_overlong_penalty(lengths, limit=100, buffer=0, penalty=1.0).tolist() == [0, 0, 0, 0]


def test_rewards_are_plus_and_minus_one() -> None:
    values = rewards(np.array([True, False]), np.array([5, 100]), limit=100, buffer=20, penalty=0.5)
    assert values.tolist() == [1.0, -1.5]
