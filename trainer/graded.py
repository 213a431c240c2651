"""Sampling and grading shared out over the ranks: every rank ends up with every response and its grade."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.config import TrainerConfig
from trainer.policy import Policy
from trainer.problems import Problem
from trainer.prompts import prompt_tokens
from trainer.ranks import Ranks
from trainer.rewards import Grade, grade
from trainer.rollout import Request, Response, Sampler, request_seed


def sample_graded(
    sampler: Sampler,
    policy: Policy,
    ranks: Ranks,
    problems: Sequence[Problem],
    config: TrainerConfig,
    *,
    samples: range,
    seed: Sequence[int],
    temperature: float,
    top_p: float,
) -> tuple[list[Response], list[Grade]]:
    """One response to each problem for each of `samples`, problem by problem, with its grade.

    Args:
        samples: the numbers of the samples. A number is always the same draw, whatever else is drawn with it.
        seed: names the draw; a request's own seed adds the numbers of its problem and of its sample.
    """
    prompts = [prompt_tokens(policy.tokenizer, problem, config.data) for problem in problems]
    requests = [
        Request(prompt, request_seed(*seed, index, sample))
        for index, prompt in enumerate(prompts)
        for sample in samples
    ]
    answers = [problem.answer for problem in problems for _ in samples]
    own = sampler.sample(
        ranks.share(requests),
        temperature=temperature,
        top_p=top_p,
        max_tokens=config.rollout.max_response_length,
    )
    grades = [
        grade(policy.decode(response.tokens), answer)
        for response, answer in zip(own, ranks.share(answers), strict=True)
    ]
    responses = ranks.gather_responses(own, [request.prompt for request in requests])
    shared = ranks.gather_json([[each.correct, each.prediction] for each in grades], len(requests))
    return responses, [Grade(bool(correct), prediction) for correct, prediction in shared]
