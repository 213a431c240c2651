"""A training batch: groups of responses to the same prompt, graded, filtered and with their advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.advantages import group_advantages, informative, rewards
from trainer.config import TrainerConfig
from trainer.graded import sample_graded
from trainer.policy import Policy
from trainer.problems import Problem
from trainer.ranks import Ranks
from trainer.rollout import Response, Sampler


class ProblemStream:
    """The training problems in a seeded order, reshuffled every epoch. `position` is all there is to resume."""

    def __init__(self, problems: Sequence[Problem], *, seed: int) -> None:
        self.problems, self.seed, self.position = problems, seed, 0

    def take(self, count: int) -> list[Problem]:
        """The next `count` problems."""
        taken: list[Problem] = []
        orders: dict[int, np.ndarray] = {}
        for position in range(self.position, self.position + count):
            epoch, index = divmod(position, len(self.problems))
            if epoch not in orders:
                orders[epoch] = np.random.default_rng((self.seed, epoch)).permutation(len(self.problems))
            taken.append(self.problems[orders[epoch][index]])
        self.position += count
        return taken


@dataclass(frozen=True)
class Batch:
    """`groups` are what is trained on; the other numbers are over everything that was sampled for them."""

    groups: list[list[Response]]
    """Each G responses to one prompt."""
    problems: list[Problem]
    """The problem of each group."""
    advantages: list[list[float]]
    """One per response; all its tokens share it."""
    rewards: list[list[float]]
    sampled_batches: int
    sampled_tokens: int
    sampled_accuracy: float
    sampled_length: float


def sample_batch(
    sampler: Sampler, stream: ProblemStream, policy: Policy, ranks: Ranks, config: TrainerConfig, *, step: int
) -> Batch:
    """Sample groups until `rollout.prompts_per_step` of them are informative, or the bound on batches is reached.

    Groups whose responses are all right or all wrong are dropped (DAPO 3.2), also where a punishment of length makes
    their rewards differ. With the bound reached the step trains on what there is, which may be nothing.
    """
    rollout, reward = config.rollout, config.reward
    kept: list[tuple[Problem, list[Response], np.ndarray]] = []
    tokens, correct_all, lengths_all = 0, [], []
    for batch in range(rollout.max_sampled_batches):
        problems = stream.take(rollout.prompts_per_step)
        # No top-p here: the ratio of the loss is only right when the policy sampled from its whole distribution.
        responses, grades = sample_graded(
            sampler,
            policy,
            ranks,
            problems,
            config,
            samples=range(rollout.group_size),
            seed=(config.seed, step, batch),
            temperature=rollout.temperature,
            top_p=1.0,
        )
        size = rollout.group_size
        groups = [responses[start : start + size] for start in range(0, len(responses), size)]
        correct = np.array([one.correct for one in grades]).reshape(-1, size)
        lengths = np.array([[len(one.tokens) for one in group] for group in groups])
        values = rewards(
            correct.ravel(),
            lengths.ravel(),
            limit=rollout.max_response_length,
            buffer=reward.overlong_buffer,
            penalty=reward.overlong_penalty,
        ).reshape(correct.shape)
        kept += [(problems[index], groups[index], values[index]) for index in np.flatnonzero(informative(correct))]
        tokens += int(lengths.sum())
        correct_all.append(correct)
        lengths_all.append(lengths)
        if len(kept) >= rollout.prompts_per_step:
            break
    kept = kept[: rollout.prompts_per_step]
    return Batch(
        groups=[group for _, group, _ in kept],
        problems=[problem for problem, _, _ in kept],
        advantages=[group_advantages(value[None])[0].tolist() for _, _, value in kept],
        rewards=[value.tolist() for _, _, value in kept],
        sampled_batches=batch + 1,
        sampled_tokens=tokens,
        sampled_accuracy=float(np.concatenate(correct_all).mean()),
        sampled_length=float(np.concatenate(lengths_all).mean()),
    )


def minibatches(batch: Batch, config: TrainerConfig) -> list[list[int]]:
    """Group indices of each optimizer step: as many as a full batch would have, sizes differing by one at most."""
    count = config.rollout.prompts_per_step // config.optimizer.prompts_per_minibatch
    parts = np.array_split(np.arange(len(batch.groups)), count)
    return [part.tolist() for part in parts if len(part)]
