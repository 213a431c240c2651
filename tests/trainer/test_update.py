"""The update: ratio == 1 before anything moves, every field at work, metrics by hand, a stop at what is not finite."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup

from tests.integration.test_knobs import CHANGES_THE_NUMBERS
from tests.trainer.batches import Recorder, changed, drifted, run_update, sampled_batch
from trainer.config import FipoConfig, ModelConfig, OptimizerConfig, TrainerConfig
from trainer.errors import TrainingDiverged
from trainer.groups import minibatches
from trainer.policy import Policy, load_policy, micro_batches
from trainer.ranks import ALONE
from trainer.train import set_learning_rate
from trainer.update import score_old, update


@pytest.fixture
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


def test_ratio_is_exactly_one_on_the_first_minibatch(policy: Policy, small_config: TrainerConfig) -> None:
    metrics, _ = run_update(policy, sampled_batch(policy), small_config)
    assert metrics["first_minibatch_log_ratio_max"] == 0.0
    assert metrics["policy_kl"] != 0.0  # the second minibatch meets a policy that has moved


@pytest.mark.parametrize("key", [key for key in CHANGES_THE_NUMBERS if key.startswith("fipo.")])
def test_every_fipo_field_reaches_the_weights(policy: Policy, small_config: TrainerConfig, key: str) -> None:
    batch = sampled_batch(policy)
    base = changed(small_config, "fipo", dual_clip=1.5, epsilon_f_low=0.9, epsilon_f_high=3.0, safety_threshold=1.3)
    base = changed(base, "optimizer", learning_rate=1.0)
    other = changed(base, "fipo", **{key.removeprefix("fipo."): CHANGES_THE_NUMBERS[key]})
    assert not torch.equal(run_update(policy, batch, base)[1], run_update(policy, batch, other)[1])


def token_by_token(log_ratios: list[float], advantage: float, fipo: FipoConfig) -> list[dict[str, float]]:
    """What the metrics are made of for each token of a response, the last one first, as the paper writes it."""
    tokens, future = [], 0.0
    for log_ratio in reversed(log_ratios):
        ratio = math.exp(log_ratio)
        future = fipo.discount * future + (log_ratio if ratio <= fipo.dual_clip else 0.0)
        weight = min(max(math.exp(future), 1 - fipo.epsilon_f_low), 1 + fipo.epsilon_f_high)
        if advantage < 0 and ratio > fipo.safety_threshold:
            weight = min(max(weight, 0.8), 1.0)
        weighted = advantage * weight
        unclipped, clipped = -weighted * ratio, -weighted * min(max(ratio, 1 - fipo.clip_low), 1 + fipo.clip_high)
        loss, bound = max(unclipped, clipped), -weighted * fipo.dual_clip
        beyond = advantage < 0 and loss > bound
        tokens.append({
            "loss": bound if beyond else loss, "log_ratio": log_ratio, "future": future, "weight": weight,
            "clipped": clipped > unclipped, "dual_clipped": beyond,
            "at_bound": weight in (1 - fipo.epsilon_f_low, 1 + fipo.epsilon_f_high),
        })  # fmt: skip
    return tokens


@pytest.mark.parametrize(("low", "high"), [(0.4, 9.0), (1.0, 0.7)], ids=["least at a bound", "largest at a bound"])
def test_every_metric_is_its_number_by_hand(
    policy: Policy, small_config: TrainerConfig, low: float, high: float
) -> None:
    """Over two minibatches of several micro-batches each, in float64; nothing moves in between."""
    policy.model.double()
    fipo = {"dual_clip": 2.0, "epsilon_f_low": low, "epsilon_f_high": high, "safety_threshold": 1.3, "half_life": 4.0}
    config = changed(changed(small_config, "fipo", **fipo), "optimizer", micro_batch_tokens=100)
    old = score_old(policy, None, ALONE, sampled_batch(policy), config, step=1)
    moved, steps = [], []  # what is updated on; its tokens, minibatch by minibatch and response by response
    for parts in old.minibatches:
        moved.append([])
        steps.append([])
        for part in parts:
            before = drifted(part.old_log_probs, part.responses, seed=0)
            moved[-1].append(dataclasses.replace(part, old_log_probs=before))
            for response, row, advantage in zip(
                part.responses, part.old_log_probs - before, part.advantages, strict=True
            ):
                log_ratios = row[: len(response.tokens)].tolist()
                steps[-1].append(token_by_token(log_ratios, advantage.item(), config.fipo))
    responses = [response for step in steps for response in step]
    tokens = [token for response in responses for token in response]

    def dropped(response: list[dict[str, float]]) -> bool:
        return sum(token["dual_clipped"] for token in response) > 1

    def mean(name: str) -> float:
        return float(np.mean([token[name] for token in tokens]))

    def told(grad_clip: float) -> tuple[dict[str, float], list[float]]:
        recorder, limit = Recorder(policy), changed(config, "optimizer", grad_clip=grad_clip)
        metrics = update(policy, ALONE, recorder, dataclasses.replace(old, minibatches=moved), limit, step=1)
        return metrics, [each.norm().item() for each in recorder.gradients]

    kept = [[token["loss"] for response in step if not dropped(response) for token in response] for step in steps]
    _, norms = told(grad_clip=1e9)
    metrics, clipped_norms = told(grad_clip=0.01)
    assert clipped_norms == pytest.approx([0.01, 0.01], rel=1e-3)
    expected = {
        "loss": np.mean([np.mean(losses) for losses in kept]),
        "grad_norm": np.mean(norms),
        "clip_fraction": mean("clipped"),
        "dual_clip_fraction": mean("dual_clipped"),
        "policy_kl": -mean("log_ratio"),
        "influence_weight/mean": mean("weight"),
        "influence_weight/min": min(token["weight"] for token in tokens),
        "influence_weight/max": max(token["weight"] for token in tokens),
        "influence_weight/clip_fraction": mean("at_bound"),
        "future_kl/mean": mean("future"),
        "dropped_sequence_fraction": np.mean([dropped(response) for response in responses]),
        "first_minibatch_log_ratio_max": max(abs(token["log_ratio"]) for response in steps[0] for token in response),
    }
    assert metrics == pytest.approx(expected, rel=1e-9)
    assert len(set(expected.values()) | {0.0, 1.0}) == len(expected) + 2  # none at rest, and none like another


def test_the_entropy_is_that_of_the_distributions_at_the_temperature(
    policy: Policy, small_config: TrainerConfig
) -> None:
    batch, entropies = sampled_batch(policy), []
    for response in (one for group in batch.groups for one in group):
        tokens = torch.tensor([[*response.prompt, *response.tokens.tolist()]])
        logits = policy.model(tokens).logits[0, len(response.prompt) - 1 : -1] / 0.7
        entropies += torch.distributions.Categorical(logits=logits).entropy().tolist()
    config = changed(small_config, "rollout", temperature=0.7)
    metrics = score_old(policy, None, ALONE, batch, config, step=1).metrics
    assert metrics["entropy"] == pytest.approx(np.mean(entropies), rel=1e-5)


def stopped_by(policy: Policy, config: TrainerConfig, term: str, *, advantage: float = 1.0) -> None:
    """The first minibatch's update stops with `term`, and leaves the weights as they are."""
    batch = sampled_batch(policy)
    batch.advantages[0][0] = advantage
    before = torch.cat([p.detach().flatten().clone() for p in policy.model.parameters()])
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=1.0)
    old = score_old(policy, None, ALONE, batch, config, step=7)
    with pytest.raises(TrainingDiverged, match=rf"{term} is not finite at step 7 on rank 0"):
        update(policy, ALONE, optimizer, old, config, step=7)
    assert torch.equal(before, torch.cat([p.detach().flatten() for p in policy.model.parameters()]))


def test_a_loss_that_is_not_finite_is_named(policy: Policy, small_config: TrainerConfig) -> None:
    stopped_by(policy, small_config, "loss", advantage=float("nan"))


def test_a_gradient_that_is_not_finite_is_named_by_its_parameter(policy: Policy, small_config: TrainerConfig) -> None:
    name, parameter = next((n, p) for n, p in policy.model.named_parameters() if "layers.1.mlp" in n)
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    stopped_by(policy, small_config, f"gradient of {name}")


@pytest.mark.parametrize(("where", "term"), [("trainer", "log-prob"), ("rollout", "rollout log-prob")])
def test_a_log_prob_that_is_not_finite_is_named(
    policy: Policy, small_config: TrainerConfig, where: str, term: str
) -> None:
    batch = sampled_batch(policy)
    if where == "rollout":
        batch.groups[3][1].log_probs[0] = float("nan")
    else:
        with torch.no_grad():
            policy.model.model.norm.weight[0] = float("nan")
    with pytest.raises(TrainingDiverged, match=rf"^{term} is not finite at step 4 on rank 0") as raised:
        score_old(policy, None, ALONE, batch, small_config, step=4)
    assert (raised.value.step, raised.value.rank, raised.value.term) == (4, 0, term)
    assert pickle.loads(pickle.dumps(raised.value)).args == (4, 0, term)  # Ray carries it so


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 300), st.integers(1, 4))
def test_micro_batches_are_within_the_limit_and_evenly_filled(lengths: list[int], limit: int, ranks: int) -> None:
    """No two of them differ by more than the longest sequence, so no rank waits for longer than that takes."""
    batches = micro_batches(lengths, limit, ranks=ranks)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    filled = [sum(lengths[index] for index in batch) for batch in batches]
    assert all(tokens <= limit or len(batch) == 1 for tokens, batch in zip(filled, batches, strict=True))
    assert max(filled) - min(filled) <= max(lengths)
    assert len(batches) % ranks == 0


def test_micro_batches_are_as_few_as_the_limit_allows() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, size=200).tolist()
    assert len(micro_batches(lengths, 400)) == -(-sum(lengths) // 400)
    assert len(micro_batches([100, 100, 30, 30], 130)) == 2
    assert len(micro_batches([101] * 5, 200, ranks=2)) == 6


def test_the_learning_rate_rises_and_stays_or_falls_along_a_cosine() -> None:
    """Every step trains; after warm-up the cosine is that of transformers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=4, num_training_steps=8).lr_lambdas[0]
    by_hand = {
        "constant": [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0],
        "cosine": [0.25, 0.5, 0.75, 1.0, *(theirs(step - 1) for step in range(5, 9))],
    }
    for schedule in get_args(OptimizerConfig.model_fields["schedule"].annotation):
        settings = {"learning_rate": 2.0, "warmup_steps": 4, "schedule": schedule}
        config = TrainerConfig.model_validate({"steps": 8, "optimizer": settings})
        rates = [set_learning_rate(optimizer, config, step) for step in range(1, 9)]
        assert rates == pytest.approx([2.0 * each for each in by_hand[schedule]]) and rates[-1] > 0
        assert optimizer.param_groups[0]["lr"] == rates[-1]


def test_a_short_batch_keeps_the_number_of_optimizer_steps(policy: Policy, small_config: TrainerConfig) -> None:
    assert [len(m) for m in minibatches(sampled_batch(policy, groups=5), small_config)] == [3, 2]
    assert minibatches(sampled_batch(policy, groups=1), small_config) == [[0]]
