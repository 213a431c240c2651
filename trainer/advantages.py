"""Rewards to advantages: correctness, soft overlong punishment, group normalisation, dynamic sampling's filter."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def soft_overlong_penalty(lengths: Array, *, limit: int, buffer: int, penalty: float) -> Array:
    """DAPO eq. 13: 0 up to `limit - buffer` tokens, then falling linearly to `-penalty` at `limit`. [N] -> [N]."""
    if buffer == 0:
        return np.zeros(len(lengths))
    return -penalty * np.clip((lengths - (limit - buffer)) / buffer, 0.0, 1.0)


def rewards(correct: Array, lengths: Array, *, limit: int, buffer: int, penalty: float) -> Array:
    """+1 for a correct response and -1 for any other (DAPO eq. 7), plus the soft overlong penalty. [N] -> [N]."""
    return np.where(correct, 1.0, -1.0) + soft_overlong_penalty(lengths, limit=limit, buffer=buffer, penalty=penalty)


def group_advantages(rewards: Array) -> Array:
    """(r - mean) / (std + 1e-6) within each group (DAPO eq. 9, unbiased std as in verl). [groups, G] -> [groups, G]."""
    mean = rewards.mean(axis=1, keepdims=True)
    return (rewards - mean) / (rewards.std(axis=1, ddof=1, keepdims=True) + 1e-6)


def informative(correct: Array) -> Array:
    """Groups that teach something: neither all right nor all wrong (DAPO 3.2). [groups, G] bool -> [groups] bool."""
    return np.any(correct, axis=1) & ~np.all(correct, axis=1)
