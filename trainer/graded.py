"""Sampling and grading shared out over the ranks: every rank ends up with every response and its grade."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.policy import Policy
from trainer.ranks import Ranks
from trainer.rewards import Grade, grade
from trainer.rollout import Request, Response, Sampler


def sample_graded(
    sampler: Sampler,
    policy: Policy,
    ranks: Ranks,
    requests: Sequence[Request],
    answers: Sequence[str],
    *,
    temperature: float,
    top_p: float,
    max_tokens: int,
) -> tuple[list[Response], list[Grade]]:
    """One response per request, graded against the answer at the same place."""
    own = sampler.sample(ranks.share(requests), temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    grades = [
        grade(policy.decode(response.tokens), answer)
        for response, answer in zip(own, ranks.share(answers), strict=True)
    ]
    responses = ranks.gather_responses(own, [request.prompt for request in requests])
    shared = ranks.gather_json([[each.correct, each.prediction] for each in grades], len(requests))
    return responses, [Grade(bool(correct), prediction) for correct, prediction in shared]
