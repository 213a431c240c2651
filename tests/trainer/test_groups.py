"""Training batches: every problem once an epoch in a seeded order, and only groups that teach something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from trainer.advantages import group_advantages
from trainer.config import ModelConfig, TrainerConfig
from trainer.groups import Batch, ProblemStream, minibatches, sample_batch
from trainer.metrics import batch_metrics
from trainer.policy import Policy, load_policy
from trainer.problems import Problem
from trainer.ranks import ALONE
from trainer.rollout import Request, Response

PROBLEMS = [Problem(f"{number}+1=", str(number + 1)) for number in range(8)]
TAUGHT = {0: "11", 1: "00", 2: "10", 3: "01", 4: "00", 5: "10", 6: "10", 7: "01"}
"""Which of the two responses to each problem are right; more of them in the one batch of four than in the other."""


@pytest.fixture(scope="module")
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


def test_every_problem_comes_once_an_epoch_in_another_order() -> None:
    stream = ProblemStream(PROBLEMS, seed=0)
    epochs = [stream.take(8) for _ in range(3)]
    assert all(sorted(epoch) == sorted(PROBLEMS) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert ProblemStream(PROBLEMS, seed=1).take(8) != epochs[0]


def test_the_order_goes_on_from_its_position_across_epochs() -> None:
    whole = ProblemStream(PROBLEMS, seed=3).take(20)
    first = ProblemStream(PROBLEMS, seed=3)
    assert first.take(5) == whole[:5]
    resumed = ProblemStream(PROBLEMS, seed=3)
    resumed.position = first.position
    assert resumed.take(15) == whole[5:]


class Scripted:
    """Answers as `TAUGHT` says; a wrong response is a token shorter, or, if `uneven`, the first of two alone."""

    def __init__(self, policy: Policy, *, uneven: bool = False) -> None:
        self.uneven, self.drawn_at = uneven, set[tuple[float, float]]()
        self.numbers = {tuple(policy.tokenizer(each.prompt)["input_ids"]): at for at, each in enumerate(PROBLEMS)}
        self.words = policy.tokenizer
        self.seeds: list[int] = []

    def sample(self, requests: Sequence[Request], *, temperature: float, top_p: float, **_: object) -> list[Response]:
        self.drawn_at.add((temperature, top_p))
        drawn, seen = [], dict.fromkeys(self.numbers, 0)
        self.seeds += [each.seed for each in requests]
        for each in requests:
            number, place = self.numbers[each.prompt], seen[each.prompt] % 2
            seen[each.prompt] += 1
            right = TAUGHT[number][place] == "1"
            symbols = ["\\boxed{", PROBLEMS[number].answer, "}", "<eos>"] if right else ["\\boxed{", "0", "}"]
            if self.uneven and place and not right:
                symbols.insert(1, "0")
            tokens = np.array(self.words.convert_tokens_to_ids(symbols), np.int32)
            drawn.append(Response(each.prompt, tokens, np.zeros(len(tokens), np.float32), right))
        return drawn


def config_of(batches: int, seed: int = 0) -> TrainerConfig:
    rollout = {"prompts_per_step": 4, "group_size": 2, "max_sampled_batches": batches}
    return TrainerConfig.model_validate({"seed": seed, "rollout": rollout, "optimizer": {"prompts_per_minibatch": 2}})


def batch_of(policy: Policy, batches: int) -> tuple[Batch, ProblemStream, TrainerConfig]:
    config, stream = config_of(batches), ProblemStream(PROBLEMS, seed=0)
    return sample_batch(Scripted(policy), stream, policy, ALONE, config, step=1), stream, config


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_groups_of_equal_rewards_are_replaced_as_long_as_the_bound_allows(batches: int, policy: Policy) -> None:
    batch, stream, config = batch_of(policy, batches)
    order = ProblemStream(PROBLEMS, seed=0).take(4 * batch.sampled_batches)
    taught = [each for each in order if TAUGHT[PROBLEMS.index(each)] in ("10", "01")]
    assert batch.problems == taught[:4] and stream.position == len(order)
    assert batch.sampled_batches == min(batches, 2)  # the 8 problems are two batches, and 5 of them teach
    for problem, group, rewards, advantages in zip(
        batch.problems, batch.groups, batch.rewards, batch.advantages, strict=True
    ):
        signs = [1.0 if one == "1" else -1.0 for one in TAUGHT[PROBLEMS.index(problem)]]
        assert rewards == signs and np.sign(advantages).tolist() == signs
        assert [one.finished for one in group] == [sign > 0 for sign in signs]
    if len(taught) > 4:
        assert minibatches(batch, config) == [[0, 1], [2, 3]]


def test_what_was_sampled_is_counted_whole_and_what_is_trained_on_apart(policy: Policy) -> None:
    batch, _, _ = batch_of(policy, 2)
    assert batch_of(policy, 1)[0].sampled_accuracy != batch.sampled_accuracy  # so that it is not one batch's alone
    right = sum(each.count("1") for each in TAUGHT.values())
    assert batch.sampled_accuracy == right / 16
    assert batch.sampled_tokens == 16 * 3 + right and batch.sampled_length == batch.sampled_tokens / 16
    metrics = batch_metrics(batch)
    assert metrics["sampled_batches"] == 2 and metrics["groups_kept"] == 4 and metrics["rollout/accuracy"] == right / 16
    assert metrics["reward/mean"] == 0.0 and metrics["response_length/truncated"] == 0.5
    names = ("min", "q25", "median", "q75", "max", "mean")
    assert [metrics[f"response_length/{name}"] for name in names] == [3, 3, 3.5, 4, 4, 3.5]


def test_long_responses_are_punished_before_their_limit(policy: Policy) -> None:
    """Of four tokens at the limit, and of three half way into a buffer of two."""
    data = config_of(2).model_dump(mode="json")
    data["rollout"]["max_response_length"] = 4
    data["reward"] = {"overlong_buffer": 2, "overlong_penalty": 0.5}
    config, stream = TrainerConfig.model_validate(data), ProblemStream(PROBLEMS, seed=0)
    batch = sample_batch(Scripted(policy), stream, policy, ALONE, config, step=1)
    taught = [TAUGHT[PROBLEMS.index(problem)] for problem in batch.problems]
    assert batch.rewards == [[1 - 0.5 if one == "1" else -1 - 0.25 for one in each] for each in taught]
    # To the last bit: of two rewards the advantages are nearly the same whatever the rewards are.
    np.testing.assert_array_equal(batch.advantages, group_advantages(np.array(batch.rewards)))


def test_a_group_that_is_all_wrong_teaches_nothing_though_its_lengths_are_punished_unlike(policy: Policy) -> None:
    data = config_of(2).model_dump(mode="json")
    data["rollout"] |= {"max_response_length": 4, "temperature": 0.7}
    data["reward"] = {"overlong_buffer": 2, "overlong_penalty": 0.5}
    sampler, stream = Scripted(policy, uneven=True), ProblemStream(PROBLEMS, seed=0)
    batch = sample_batch(sampler, stream, policy, ALONE, TrainerConfig.model_validate(data), step=1)
    taught = [TAUGHT[PROBLEMS.index(problem)] for problem in batch.problems]
    assert len(taught) == 4 and set(taught) == {"10", "01"}
    lengths = {len(one.tokens) for group in batch.groups for one in group if not one.finished}
    assert lengths == {3, 4}  # else the groups that are left out would have had equal rewards
    assert sampler.drawn_at == {(0.7, 1.0)}  # the ratio of the loss is of the whole distribution


def test_every_response_of_every_batch_step_and_run_has_a_seed_of_its_own(policy: Policy) -> None:
    sampler = Scripted(policy)
    for seed in (0, 1):
        for step in (1, 2):
            stream = ProblemStream(PROBLEMS, seed=0)
            sample_batch(sampler, stream, policy, ALONE, config_of(2, seed), step=step)
    assert len(sampler.seeds) == len(set(sampler.seeds)) == 2 * 2 * 2 * 4 * 2


def test_a_batch_that_is_full_at_once_samples_no_other(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.trainer.test_groups.TAUGHT", dict.fromkeys(TAUGHT, "10"))
    batch, stream, _ = batch_of(policy, 2)
    assert (len(batch.groups), batch.sampled_batches, stream.position) == (4, 1, 4)


def test_a_batch_that_teaches_nothing_is_empty(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.trainer.test_groups.TAUGHT", dict.fromkeys(TAUGHT, "00"))
    batch, _, config = batch_of(policy, 2)
    assert not batch.groups and batch.sampled_batches == 2 and minibatches(batch, config) == []
    assert "reward/mean" not in batch_metrics(batch)
