"""Accuracy on a held-out set: avg@k with its two errors, cons@k and pass@k."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import polars

from trainer.config import EvaluationSet, TrainerConfig
from trainer.graded import sample_graded
from trainer.policy import Policy
from trainer.problems import Problem
from trainer.ranks import Ranks
from trainer.records import Look, SetScore
from trainer.rewards import Grade, normalise
from trainer.rollout import Response, Sampler

Array = np.ndarray
Result = TypeVar("Result")
Looks = Generator[Look, bool | None, Result]
"""Yields looks at part of the samples, is told whether these are enough, and returns a result."""


def avg_at_k(correct: Array) -> float:
    """avg@k: mean of `correct` [problems, k]."""
    return float(np.asarray(correct, dtype=float).mean())


def sampling_error(correct: Array) -> float | None:
    """Standard error of avg@k from drawing k responses to these problems: sqrt(sum_i p_i (1 - p_i) / (k - 1)) / n.

    None for k = 1, where one draw per problem says nothing about the spread of draws.
    """
    values = np.asarray(correct, dtype=float)
    problems, samples = values.shape
    if samples < 2:
        return None
    p = values.mean(axis=1)
    return float(np.sqrt((p * (1 - p) / (samples - 1)).sum()) / problems)


def problem_error(correct: Array) -> float | None:
    """Standard error of avg@k over problems, the set taken as a sample of its kind: std(p_i) / sqrt(n).

    It contains the sampling error. None for a single problem.
    """
    p = np.asarray(correct, dtype=float).mean(axis=1)
    return float(p.std(ddof=1) / np.sqrt(len(p))) if len(p) > 1 else None


def pass_at_k(correct: Array, k: int) -> float:
    """Unbiased pass@k (arXiv 2107.03374): mean over problems of 1 - C(n - c, k) / C(n, k), for `correct` [problems, n].

    Raises:
        ValueError: k is not within 1..n.
    """
    values = np.asarray(correct, dtype=bool)
    samples = values.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(f"k = {k} must be within 1..{samples}, the samples per problem")
    wrong = samples - values.sum(axis=1)
    # C(w, k) / C(n, k) as a product, which neither overflows nor cancels
    miss = np.ones(len(values))
    for i in range(k):
        miss *= np.clip(wrong - i, 0, None) / (samples - i)
    return float((1 - miss).mean())


def cons_at_k(predictions: Sequence[Sequence[str | None]], answers: Sequence[str]) -> float:
    """cons@k: accuracy of the majority answer, a tie counting for its share of right answers; no answer is no vote.

    Args:
        predictions: [problems, k], None or "" where a response had no answer.
        answers: [problems], in the same notation.
    """
    shares = []
    for row, answer in zip(predictions, answers, strict=True):
        votes = Counter(each for each in row if each is not None and each != "")
        if not votes:
            shares.append(0.0)
            continue
        most = max(votes.values())
        leaders = [each for each, count in votes.items() if count == most]
        shares.append(float(answer in leaders) / len(leaders))
    return float(np.mean(shares))


class SetResult(NamedTuple):
    """What an evaluation of one set says, and the table it says so from."""

    score: SetScore
    outcomes: polars.DataFrame
    """One row per response: set, problem and sample (numbers from 0), correct, prediction (null without an answer),
    length in tokens, finished (not cut at the limit)."""


def outcomes(evaluation_set: EvaluationSet, responses: Sequence[Response], grades: Sequence[Grade]) -> polars.DataFrame:
    """The table of `SetResult.outcomes`, of k graded responses per problem, given problem by problem."""
    number = np.arange(len(responses))
    return polars.DataFrame(
        {
            "set": polars.Series([evaluation_set.name] * len(responses), dtype=polars.String),
            "problem": polars.Series(number // evaluation_set.samples, dtype=polars.UInt32),
            "sample": polars.Series(number % evaluation_set.samples, dtype=polars.UInt32),
            "correct": [one.correct for one in grades],
            "prediction": polars.Series([one.prediction for one in grades], dtype=polars.String),
            "length": polars.Series([len(one.tokens) for one in responses], dtype=polars.UInt32),
            "finished": [one.finished for one in responses],
        }
    )


def score_set(
    evaluation_set: EvaluationSet, problems: Sequence[Problem], responses: Sequence[Response], grades: Sequence[Grade]
) -> SetScore:
    """Sum up k graded responses per problem, given problem by problem."""
    correct = np.array([one.correct for one in grades]).reshape(len(problems), evaluation_set.samples)
    answers = [normalise(problem.answer) for problem in problems]
    votes = np.array([one.prediction for one in grades], dtype=object).reshape(correct.shape)
    votes = np.where(correct, np.array(answers, dtype=object)[:, None], votes)  # 5^2 and 25 vote for the same
    lengths = np.array([len(response.tokens) for response in responses])
    return SetScore(
        name=evaluation_set.name,
        samples=evaluation_set.samples,
        solved=tuple(int(count) for count in correct.sum(axis=1)),
        accuracy=avg_at_k(correct),
        sampling_error=sampling_error(correct),
        problem_error=problem_error(correct),
        cons=cons_at_k(votes.tolist(), answers),
        pass_at_k=pass_at_k(correct, evaluation_set.samples),
        mean_length=float(lengths.mean()),
        length_quantiles=tuple(float(q) for q in np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1])),
        truncated=float(np.mean([not response.finished for response in responses])),
    )


def evaluate_set(
    sampler: Sampler,
    policy: Policy,
    ranks: Ranks,
    evaluation_set: EvaluationSet,
    problems: Sequence[Problem],
    *,
    config: TrainerConfig,
    step: int,
    races: bool,
) -> Looks[SetResult]:
    """Sample k responses to every problem in one call and score them; as a generator, see `whole`.

    When it races, it yields a look after `first_look` samples, and after each doubling, and takes True for an answer
    that these are enough. What was drawn is kept, and sample for sample it is what one call would have drawn. Seeds
    leave the trial out, so that trials are compared on common random numbers.
    """
    name_seed = int.from_bytes(evaluation_set.name.encode(), "little")
    drawn: list[list[tuple[Response, Grade]]] = [[] for _ in problems]
    count, target = 0, evaluation_set.first_look if races and evaluation_set.first_look else evaluation_set.samples
    while True:
        responses, grades = sample_graded(
            sampler,
            policy,
            ranks,
            problems,
            config,
            samples=range(count, target),
            seed=(config.evaluation.seed, name_seed, step),
            temperature=config.evaluation.temperature,
            top_p=config.evaluation.top_p,
        )
        for place, pair in enumerate(zip(responses, grades, strict=True)):
            drawn[place // (target - count)].append(pair)
        count, target = target, min(2 * target, evaluation_set.samples)
        part = evaluation_set.model_copy(update={"samples": count})
        responses, grades = zip(*itertools.chain.from_iterable(drawn), strict=True)
        score = score_set(part, problems, responses, grades)
        if count == evaluation_set.samples or (yield Look(step=step, score=score)):
            return SetResult(score, outcomes(part, responses, grades))


def sets_due(config: TrainerConfig, step: int) -> list[EvaluationSet]:
    """The sets to evaluate after `step`."""
    return [
        each for each in config.evaluation.sets if step in (0, config.steps) or (each.every and step % each.every == 0)
    ]


def evaluate_due(
    config: TrainerConfig,
    sampler: Sampler,
    policy: Policy,
    ranks: Ranks,
    sets: dict[str, list[Problem]],
    *,
    step: int,
    races: bool = False,
) -> Looks[list[SetResult]]:
    """The results of the sets that are due at `step`. The set that selects comes first, whenever it is due."""
    results = []
    for evaluation_set in sets_due(config, step):
        problems = sets[evaluation_set.name]
        looks = evaluate_set(sampler, policy, ranks, evaluation_set, problems, config=config, step=step, races=races)
        results.append((yield from looks))
    return results


def whole(looks: Looks[Result]) -> Result:
    """The result of an evaluation that draws every sample."""
    try:
        while True:
            next(looks)
    except StopIteration as ended:
        return ended.value
