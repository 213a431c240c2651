"""avg@k, cons@k, pass@k against their definitions; racing draws what one draw would have."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.batches import changed
from trainer.config import EvaluationSet, TrainerConfig
from trainer.evaluate import (
    Looks,
    SetResult,
    avg_at_k,
    cons_at_k,
    evaluate_set,
    pass_at_k,
    problem_error,
    sampling_error,
    score_set,
    sets_due,
    whole,
)
from trainer.policy import load_policy
from trainer.problems import Problem
from trainer.ranks import ALONE
from trainer.records import Evaluation, Look, SetScore, read_evaluations
from trainer.rewards import Grade, grade
from trainer.rollout import Request, Response, TransformersSampler
from trainer.train import train


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
    ("votes", "accuracy"),
    [
        (["7", "7", "8"], 1.0),
        (["8", "7", "8"], 0.0),
        (["8", "7"], 0.5),
        (["7", "8", "9"], 1 / 3),
        ([None, None, "7"], 1.0),  # no answer is no vote
        ([None, None], 0.0),
        (["", "", "7"], 1.0),  # nor is an empty box
    ],
)
def test_cons_at_k(votes: list[str | None], accuracy: float) -> None:
    assert cons_at_k([votes], ["7"]) == accuracy


def test_every_number_of_a_score_by_hand() -> None:
    """Three problems, four responses each: all right, one right, none."""
    problems = [Problem("a", "1"), Problem("b", "2"), Problem("c", "3")]
    right = [Grade(True, each.answer) for each in problems]
    grades = [*[right[0]] * 4, right[1], Grade(False, "9"), Grade(False, "9"), Grade(False, None),
              *[Grade(False, "7")] * 4]  # fmt: skip
    responses = [
        Response((2,), np.ones(length, np.int32), np.zeros(length, np.float32), length < 10)
        for length in (*range(1, 12), 30)
    ]
    score = score_set(EvaluationSet(name="aime", path="", samples=4), problems, responses, grades)
    assert score.model_dump() == {
        "name": "aime",
        "samples": 4,
        "solved": (4, 1, 0),
        "accuracy": pytest.approx(5 / 12),
        "sampling_error": pytest.approx((1 / 4 * 3 / 4 / 3) ** 0.5 / 3),  # of the one problem that varies
        "problem_error": pytest.approx(((7 / 12) ** 2 + (2 / 12) ** 2 + (5 / 12) ** 2) ** 0.5 / 2**0.5 / 3**0.5),
        "cons": pytest.approx(1 / 3),  # of b two say 9
        "pass_at_k": pytest.approx(2 / 3),
        "mean_length": 8.0,
        "length_quantiles": pytest.approx((1, 3.75, 6.5, 9.25, 30)),
        "truncated": 0.25,
    }


def test_every_set_is_evaluated_before_the_first_step_and_after_the_last() -> None:
    sets = [{"name": "often", "path": "", "every": 3}, {"name": "seldom", "path": "", "every": None}]
    config = TrainerConfig.model_validate({"steps": 7, "evaluation": {"sets": sets}})
    due = {step: [each.name for each in sets_due(config, step)] for step in range(8)}
    assert due[0] == due[7] == ["often", "seldom"]
    assert {step: names for step, names in due.items() if 0 < step < 7 and names} == {3: ["often"], 6: ["often"]}


def test_answers_that_are_equal_vote_together() -> None:
    """math-verify called them right, so they are one answer: two votes for 25 against one for 24."""
    grades = [Grade(True, "5^2"), Grade(True, "25"), Grade(False, "24"), Grade(False, "24")]
    response = Response((2,), np.array([1], np.int32), np.zeros(1, np.float32), True)
    each = EvaluationSet(name="aime", path="", samples=4)
    assert score_set(each, [Problem("p", "025")], [response] * 4, grades).cons == 0.5
    grades[3] = Grade(False, None)
    assert score_set(each, [Problem("p", "025")], [response] * 4, grades).cons == 1.0


def test_every_outcome_is_kept_and_adds_up_to_the_score(small_config: TrainerConfig) -> None:
    """Also: all problems and samples are drawn in one call."""
    policy = load_policy(small_config.model)
    config = changed(small_config, "evaluation", top_p=1.0, temperature=3.0)  # so that some have no answer
    sampler = CountingSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    problems = [Problem(f"{i}+1=", str(i % 9)) for i in range(30)]
    each = EvaluationSet(name="aime", path="", samples=32)
    score, outcomes = whole(evaluate_set(sampler, policy, ALONE, each, problems, config=config, step=0, races=True))
    assert sampler.asked == [30 * 32]
    assert outcomes.select("problem", "sample").rows() == list(itertools.product(range(30), range(32)))
    correct = outcomes["correct"].to_numpy().reshape(30, 32)
    assert tuple(correct.sum(1).tolist()) == score.solved and score.accuracy == avg_at_k(correct) > 0
    assert outcomes["length"].mean() == pytest.approx(score.mean_length)
    assert 1 - outcomes["finished"].mean() == pytest.approx(score.truncated)
    right = outcomes.filter("correct").select("problem", "prediction").unique().rows()
    assert all(grade(rf"\boxed{{{prediction}}}", str(i % 9)).correct for i, prediction in right)
    assert outcomes["prediction"].null_count() > 0 and set(outcomes["set"]) == {"aime"}


def test_sets_of_other_names_are_drawn_independently(small_config: TrainerConfig) -> None:
    policy, problems = load_policy(small_config.model), [Problem("1+1=", "2")] * 3
    sampler = TransformersSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    drawn = []
    for name, step in (("a", 1), ("b", 1), ("a", 2), ("a", 1)):
        each = EvaluationSet(name=name, path="", samples=8)
        config = changed(small_config, "evaluation", top_p=1.0)
        result = whole(evaluate_set(sampler, policy, ALONE, each, problems, config=config, step=step, races=False))
        drawn.append(result.outcomes["prediction"].to_list())
        assert len(set(zip(*[iter(drawn[-1])] * 8, strict=True))) == 3  # and so are the problems of a set
    assert drawn[0] == drawn[3] and drawn[1] != drawn[0] != drawn[2]


@pytest.fixture
def racing(small_config: TrainerConfig) -> Callable[[bool], Looks[SetResult]]:
    """An evaluation of 7 samples of 10 problems; when it races, 2 first."""
    policy, problems = load_policy(small_config.model), [Problem(f"{i}+1=", str(i % 9)) for i in range(10)]
    sampler = CountingSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    each = EvaluationSet(name="aime", path="", samples=7, first_look=2)
    config = changed(small_config, "evaluation", top_p=1.0)
    return lambda races: evaluate_set(sampler, policy, ALONE, each, problems, config=config, step=1, races=races)


def after_looks(looks: Looks[SetResult], *enough: bool) -> tuple[list[SetScore], SetResult]:
    """The scores looked at, and the result when they are answered by `enough`."""
    seen = [next(looks).score]
    for each in enough[:-1]:
        seen.append(looks.send(each).score)
    with pytest.raises(StopIteration) as ended:
        looks.send(enough[-1])
    return seen, ended.value.value


def test_a_race_that_is_never_decided_ends_as_one_draw(racing: Callable[[bool], Looks[SetResult]]) -> None:
    once = whole(racing(False))
    seen, raced = after_looks(racing(True), False, False)
    assert raced.outcomes.equals(once.outcomes) and raced.score == once.score
    assert [score.samples for score in seen] == [2, 4]
    for score in seen:
        correct = once.outcomes.filter(polars.col("sample") < score.samples)["correct"].to_numpy()
        assert score.solved == tuple(correct.reshape(10, score.samples).sum(1).tolist())
    assert 0 < seen[0].accuracy != once.score.accuracy  # otherwise the same score each time would have passed


def test_a_race_that_is_decided_draws_no_more(racing: Callable[[bool], Looks[SetResult]]) -> None:
    once = whole(racing(False))
    seen, raced = after_looks(racing(True), False, True)
    assert raced.score == seen[1] and raced.score.samples == 4
    assert raced.outcomes.equals(once.outcomes.filter(polars.col("sample") < 4))


def test_a_run_races_between_its_first_and_last_step_only(small_config: TrainerConfig, tmp_path: Path) -> None:
    """A run whose looks are never enough has the numbers of one that does not race."""
    data = small_config.model_dump()
    first, second = data["evaluation"]["sets"]
    data["evaluation"]["sets"] = [first | {"samples": 4, "first_look": 1}, second]
    config = TrainerConfig.model_validate(data)
    told = {races: list(train(config, tmp_path / str(races), races=races)) for races in (True, False)}
    looks = [each for each in told[True] if isinstance(each, Look)]
    assert [(look.step, look.score.samples, look.score.name) for look in looks] == [(1, 1, "select"), (1, 2, "select")]
    assert [each.scores for each in told[True] if isinstance(each, Evaluation)] == [e.scores for e in told[False]]

    run = train(config, tmp_path / "stopped", races=True)
    assert isinstance(next(run), Evaluation) and isinstance(next(run), Look)
    stopped = run.send(True)
    assert isinstance(stopped, Evaluation) and stopped.scores[0].samples == 1
    run.close()
    assert read_evaluations(tmp_path / "stopped")[-1] == stopped


class CountingSampler(TransformersSampler):
    def sample(self, requests: Sequence[Request], **settings: object) -> list[Response]:
        self.asked = [*getattr(self, "asked", []), len(requests)]
        return super().sample(requests, **settings)
