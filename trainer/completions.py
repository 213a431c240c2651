"""What the model wrote in training, with the credit that FIPO gave to each token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars
import torch
from torch import Tensor

from trainer.config import TrainerConfig
from trainer.groups import Batch, minibatches
from trainer.losses import fipo_loss_sum
from trainer.policy import Policy, micro_batches, score
from trainer.rewards import grade
from trainer.rollout import Response
from trainer.update import loss_settings


@dataclass(frozen=True)
class Chosen:
    """A few responses of a batch, scored before the update moves the policy."""

    responses: Sequence[Response]
    groups: Sequence[int]
    advantages: Sequence[float]
    rewards: Sequence[float]
    old_log_probs: Tensor
    """[B, L]"""


def choose(policy: Policy, batch: Batch, config: TrainerConfig) -> Chosen:
    """Up to `evaluation.completions` responses of the last minibatch, of each of its last groups as many.

    In the first minibatch the policy has not moved, and every weight of the loss is 1.
    """
    last, wanted = minibatches(batch, config)[-1], config.evaluation.completions
    each = min(len(batch.groups[0]), max(2, math.ceil(wanted / len(last))))
    places = [(group, one) for group in last[-math.ceil(wanted / each) :] for one in range(each)][:wanted]
    responses = [batch.groups[group][one] for group, one in places]
    return Chosen(
        responses=responses,
        groups=[group for group, _ in places],
        advantages=[batch.advantages[group][one] for group, one in places],
        rewards=[batch.rewards[group][one] for group, one in places],
        old_log_probs=_log_probs(policy, responses, config)[0],
    )


def completions(chosen: Chosen, policy: Policy, batch: Batch, config: TrainerConfig, *, step: int) -> polars.DataFrame:
    """One row per response: problem, answer, response, prediction, correct, reward, advantage, length, and lists over
    its tokens: the token's text, log_ratio (log pi after this step's update - log pi before), and the influence_weight
    that this ratio gives. The loss of the last minibatch had those of one optimizer step earlier.
    """
    log_probs, mask = _log_probs(policy, chosen.responses, config)
    advantages = torch.tensor(chosen.advantages, dtype=log_probs.dtype, device=log_probs.device)[:, None]
    result = fipo_loss_sum(
        log_probs, chosen.old_log_probs, advantages.expand_as(log_probs), mask, **loss_settings(config.fipo)
    )
    log_ratio = log_probs - chosen.old_log_probs
    rows = []
    for row, response in enumerate(chosen.responses):
        problem, length = batch.problems[chosen.groups[row]], len(response.tokens)
        text = policy.decode(response.tokens)
        graded = grade(text, problem.answer)
        rows.append(
            {
                "step": step,
                "problem": problem.prompt,
                "answer": problem.answer,
                "response": text,
                "prediction": graded.prediction,
                "correct": graded.correct,
                "reward": chosen.rewards[row],
                "advantage": chosen.advantages[row],
                "length": length,
                "finished": response.finished,
                "tokens": [policy.tokenizer.decode([token]) for token in response.tokens.tolist()],
                "log_ratio": log_ratio[row, :length].tolist(),
                "influence_weight": result.weights[row, :length].tolist(),
            }
        )
    per_token = {"log_ratio": polars.List(polars.Float32), "influence_weight": polars.List(polars.Float32)}
    return polars.DataFrame(rows, schema_overrides={"prediction": polars.String} | per_token)


def _log_probs(policy: Policy, responses: Sequence[Response], config: TrainerConfig) -> tuple[Tensor, Tensor]:
    """Log-probs and mask, both [B, L], a micro-batch at a time. Every rank scores all of them."""
    lengths = [len(one.prompt) + len(one.tokens) for one in responses]
    shape = (len(responses), max(len(one.tokens) for one in responses))
    log_probs, mask = (torch.zeros(shape, device=policy.device) for _ in range(2))
    for rows in micro_batches(lengths, config.optimizer.micro_batch_tokens):
        with torch.no_grad():
            some, _, valid = score(
                policy,
                [responses[row] for row in rows],
                temperature=config.rollout.temperature,
                dtype=getattr(torch, config.model.dtype),
            )
        log_probs[rows, : some.shape[1]], mask[rows, : some.shape[1]] = some.float(), valid.float()
    return log_probs, mask
