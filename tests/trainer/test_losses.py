"""The loss against the authors' numbers, against the definition, and against the losses it contains."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import Aggregation
from trainer.losses import LossSum, fipo_loss_sum, future_kl, influence_weights, reference_kl_sum

CASES = json.loads((Path(__file__).parent / "data" / "fipo_policy_loss.json").read_text())["cases"]
FIPO = {
    "gamma": 2 ** (-1 / 32), "epsilon_f_low": 0.2, "epsilon_f_high": 0.2, "safety_threshold": 3.0, "clip_low": 0.2,
    "clip_high": 0.28, "dual_clip": 10.0, "filtering": True, "aggregation": "token-mean",
}  # fmt: skip
DAPO = FIPO | {"epsilon_f_low": 0.0, "epsilon_f_high": 0.0}


def mean_loss(result: LossSum) -> torch.Tensor:
    """As the update divides it."""
    return result.total / result.count.clamp(min=1)


def case_settings(params: dict) -> dict:
    """The authors' parameters in our terms: a clip ratio of 0 means weights up to 10."""
    clip = params["influence_clip_ratio"]
    low, high = (1.0, 9.0) if clip == 0 else (0.0, clip) if params["influence_clip_high_only"] else (clip, clip)
    return FIPO | {
        "gamma": 2 ** (-1 / params["half_life"]),
        "epsilon_f_low": low,
        "epsilon_f_high": high,
        "safety_threshold": params["safety_threshold"],
        "clip_low": params["clip_ratio_low"],
        "clip_high": params["clip_ratio_high"],
        "dual_clip": params["dual_clip_ratio"],
        "aggregation": params["loss_aggregation"],
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_equals_the_authors_reference(case: dict, dtype: torch.dtype, tolerance: float) -> None:
    inputs = {name: torch.tensor(values, dtype=dtype) for name, values in case["inputs"].items()}
    mask = inputs["response_mask"]
    log_probs = inputs["log_probs"].requires_grad_()
    arguments = (log_probs, inputs["old_log_probs"], inputs["advantages"], mask)
    expected = case["expected"]

    result = fipo_loss_sum(*arguments, **case_settings(case["params"]))
    loss = mean_loss(result)
    loss.backward()

    def close(ours: torch.Tensor, theirs: list) -> None:
        theirs = torch.tensor(theirs, dtype=dtype)
        torch.testing.assert_close(ours * mask, theirs * mask, rtol=tolerance, atol=tolerance)

    assert loss.item() == pytest.approx(expected["loss"], rel=tolerance, abs=tolerance)
    close(log_probs.grad, expected["grad_log_probs"])
    close(result.weights, expected["influence_weights"])
    for ours, theirs in {
        "clipped": "clip_frac",
        "dual_clipped": "dual_clip_frac",
        "policy_kl": "ppo_kl",
        "influence_weight": "influence_mean",
        "weights_at_bound": "influence_clip_frac",
    }.items():
        # The reference divides by tokens + 1e-8, which shows in the tenth digit here, though not in the loss.
        mean = (result.sums[ours] / result.sums["tokens"]).item()
        assert mean == pytest.approx(expected[theirs], rel=tolerance, abs=max(tolerance, 2e-9)), ours
    for ours, theirs in ((result.smallest_weight, "influence_min"), (result.largest_weight, "influence_max")):
        assert ours.item() == pytest.approx(expected[theirs], rel=tolerance, abs=tolerance), theirs
    dropped = (torch.tensor(expected["loss_mask"]).amax(1) == 0).sum().item()
    assert result.sums["dropped_sequences"].item() == dropped


def random_batch(batch: int, length: int, seed: int, spread: float = 0.3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(batch, length, generator=generator, dtype=torch.float64) * 3
    new = old + spread * torch.randn(batch, length, generator=generator, dtype=torch.float64)
    advantages = torch.randn(batch, 1, generator=generator, dtype=torch.float64).expand(batch, length)
    lengths = torch.randint(1, length + 1, (batch, 1), generator=generator)
    return new, old, advantages, (torch.arange(length) < lengths).double()


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(1, 700), gamma=st.sampled_from([0.0, 0.5, 0.917, 0.9786, 0.9973, 1.0]), seed=st.integers(0, 99)
)
def test_future_kl_is_the_discounted_suffix_sum(length: int, gamma: float, seed: int) -> None:
    new, old, _, mask = random_batch(2, length, seed)
    log_ratio = new - old
    expected = torch.zeros_like(log_ratio)
    after = torch.zeros(2, dtype=torch.float64)
    for t in reversed(range(length)):
        after = (log_ratio * mask)[:, t] + gamma * after
        expected[:, t] = after
    torch.testing.assert_close(future_kl(log_ratio, mask, gamma=gamma), expected, rtol=1e-11, atol=1e-11)


def test_future_kl_of_a_long_sequence_does_not_overflow_in_float32() -> None:
    ones = torch.ones(1, 40_000)
    gamma = 2 ** (-1 / 8)
    torch.testing.assert_close(future_kl(ones, ones, gamma=gamma)[0, 0].item(), 1 / (1 - gamma), rtol=1e-5, atol=0.0)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), gamma=st.floats(0, 1), spread=st.floats(0.01, 1.5))
def test_weights_of_one_are_dapo(seed: int, gamma: float, spread: float) -> None:
    """DAPO written down again, independently: dual-clip PPO with a token mean."""
    new, old, advantages, mask = random_batch(4, 30, seed, spread)
    ratio = (new - old).exp()
    surrogate = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.28))
    loss = torch.where(advantages < 0, torch.minimum(surrogate, -advantages * 10.0), surrogate)
    outside = ((advantages < 0) & (ratio > 10) & (mask > 0)).sum(1)
    mask_kept = mask * (outside <= 1)[:, None]
    expected = (loss * mask_kept).sum() / mask_kept.sum().clamp(min=1)
    ours = mean_loss(fipo_loss_sum(new, old, advantages, mask, **DAPO | {"gamma": gamma}))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-12)


def test_equal_clips_are_grpo() -> None:
    new, old, advantages, mask = random_batch(4, 30, seed=5)
    ratio = (new - old).exp()
    grpo = -torch.minimum(advantages * ratio, advantages * ratio.clamp(0.8, 1.2))
    expected = (grpo * mask).sum(1).div(mask.sum(1)).mean()
    settings = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 1e9, "aggregation": "seq-mean-token-mean"}
    ours = mean_loss(fipo_loss_sum(new, old, advantages, mask, **DAPO | settings))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-12)


def test_an_unmoved_policy_makes_every_setting_the_same_run() -> None:
    _, old, advantages, mask = random_batch(4, 30, seed=1)
    losses = set()
    for gamma, epsilon in [(0.0, 0.0), (0.9, 0.2), (1.0, 1.0)]:
        settings = {"gamma": gamma, "epsilon_f_low": epsilon, "epsilon_f_high": epsilon}
        result = fipo_loss_sum(old, old, advantages, mask, **FIPO | settings)
        losses.add(round(mean_loss(result).item(), 12))
        assert result.sums["influence_weight"] == result.sums["tokens"]
    assert len(losses) == 1


def test_no_gradient_flows_through_the_weights() -> None:
    new, old, advantages, mask = random_batch(3, 20, seed=2)
    new.requires_grad_()
    result = fipo_loss_sum(new, old, advantages, mask, **FIPO)
    result.total.backward()
    constant = new.detach().requires_grad_()
    ratio = (constant - old).exp()
    weighted = advantages * result.weights
    torch.maximum(-weighted * ratio, -weighted * ratio.clamp(0.8, 1.28)).mul(mask).sum().backward()
    torch.testing.assert_close(new.grad, constant.grad)


@pytest.mark.parametrize(("future", "clipped", "safe"), [(2.0, 1.5, 1.0), (-2.0, 0.25, 0.8)])
def test_a_token_past_the_safety_threshold_has_a_weight_from_0_8_to_1(
    future: float, clipped: float, safe: float
) -> None:
    weights = influence_weights(
        torch.full((1, 3), future), torch.tensor([[1.0, 4.0, 4.0]]), torch.tensor([[-1.0, -1.0, 1.0]]),
        epsilon_f_low=0.75, epsilon_f_high=0.5, safety_threshold=3.0,
    )  # fmt: skip
    torch.testing.assert_close(weights, torch.tensor([[clipped, safe, clipped]]))


def test_log_ratios_are_cut_at_20() -> None:
    log_ratio = torch.tensor([[15.0, 25.0], [-15.0, -25.0]], dtype=torch.float64)
    zeros, ones = torch.zeros_like(log_ratio), torch.ones_like(log_ratio)
    settings = FIPO | {"gamma": 0.0, "filtering": False, "epsilon_f_low": 1.0, "epsilon_f_high": 1e9}
    weights = fipo_loss_sum(log_ratio, zeros, ones, ones, **settings).weights
    cut = torch.tensor([[15.0, 20.0], [-15.0, -20.0]], dtype=torch.float64)
    torch.testing.assert_close(weights, cut.exp(), rtol=1e-9, atol=0.0)
    divergence = reference_kl_sum(zeros, log_ratio, ones, aggregation="token-mean").item()
    assert divergence == pytest.approx((cut.exp() - 1 - cut).sum().item(), rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 999),
    cut=st.integers(1, 5),
    aggregation=st.sampled_from(get_args(Aggregation)),
)
def test_sums_over_micro_batches_add_up(seed: int, cut: int, aggregation: str) -> None:
    batch = random_batch(6, 25, seed, spread=1.0)
    settings = FIPO | {"dual_clip": 3.0, "aggregation": aggregation}
    whole = fipo_loss_sum(*batch, **settings)
    parts = [fipo_loss_sum(*(x[rows] for x in batch), **settings) for rows in (slice(0, cut), slice(cut, 6))]
    assert sum(p.total for p in parts).item() == pytest.approx(whole.total.item(), rel=1e-9, abs=1e-9)
    assert sum(p.count for p in parts).item() == whole.count.item()


def numbers(result: LossSum) -> dict[str, float]:
    """All but the tables."""
    named = result._asdict()
    sums, _, _ = (named.pop(name) for name in ("sums", "weights", "kept"))
    return {name: value.item() for name, value in (named | sums).items()}


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 999),
    tokens=st.integers(0, 200),
    rows=st.integers(1, 2),
    aggregation=st.sampled_from(get_args(Aggregation)),
)
def test_padding_changes_nothing(seed: int, tokens: int, rows: int, aggregation: str) -> None:
    """Neither behind the tokens of a sequence, nor as whole sequences, which a rank without work runs along with."""
    batch = random_batch(3, 20, seed)
    *padded, mask = (torch.randn(3 + rows, 20 + tokens, dtype=torch.float64) for _ in batch)
    padded.append(torch.zeros_like(mask))
    for whole, part in zip(padded, batch, strict=True):
        whole[:3, :20] = part
    settings = FIPO | {"aggregation": aggregation}
    before, after = (numbers(fipo_loss_sum(*each, **settings)) for each in (batch, padded))
    assert after == pytest.approx(before, rel=1e-9, abs=1e-12)


# Of a sequence of one token with advantage 1 and of one of three with -2, at ratio 1: losses -1, and 2 three times.
AGGREGATED = {"token-mean": 5 / 4, "seq-mean-token-sum": 5 / 2, "seq-mean-token-mean": 1 / 2}


@pytest.mark.parametrize("aggregation", get_args(Aggregation))
def test_each_aggregation_by_hand(aggregation: str) -> None:
    mask = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    advantages, same = torch.tensor([[1.0], [-2.0], [5.0]]).expand(3, 3), torch.zeros(3, 3)
    loss = mean_loss(fipo_loss_sum(same, same, advantages, mask, **(FIPO | {"aggregation": aggregation})))
    assert float(loss) == pytest.approx(AGGREGATED[aggregation])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_padding_is_neither_the_smallest_nor_the_largest_weight(sign: float) -> None:
    """Its future KL is 0 and its weight 1, beside tokens that all went the same way."""
    old, mask = torch.zeros(2, 6), torch.ones(2, 6)
    mask[0, 4:] = 0.0
    settings = FIPO | {"epsilon_f_low": 1.0, "epsilon_f_high": 9.0, "filtering": False}
    result = fipo_loss_sum(old + 0.1 * sign * mask, old, torch.ones(2, 6), mask, **settings)
    last = math.exp(0.1 * sign)  # of a last token, whose future is itself
    assert float(result.smallest_weight if sign > 0 else result.largest_weight) == pytest.approx(last)


@pytest.mark.parametrize(("new", "old"), [(torch.inf, 0.0), (-torch.inf, 0.0), (0.0, -torch.inf), (3e38, -3e38)])
def test_an_infinity_in_what_is_left_out_changes_neither_loss_nor_gradient(new: float, old: float) -> None:
    def run(new: float, old: float) -> tuple[float, torch.Tensor]:
        log_probs, before = torch.zeros(2, 2, 5)
        advantages, mask = torch.tensor([[1.0], [-1.0]]).expand(2, 5), torch.ones(2, 5)
        log_probs[1, :2] = 30.0  # two tokens beyond the dual clip: the sequence is dropped
        mask[0, 3:] = 0.0
        for place in ((1, 2), (0, 4)):
            log_probs[place], before[place] = new, old
        log_probs.requires_grad_()
        settings = FIPO | {"filtering": False, "epsilon_f_low": 1.0, "epsilon_f_high": 9.0}
        total = fipo_loss_sum(log_probs, before, advantages, mask, **settings).total
        total.backward()
        return total.item(), log_probs.grad

    loss, gradient = run(new, old)
    expected, expected_gradient = run(0.0, 0.0)
    assert loss == expected == -3.0
    assert torch.equal(gradient, expected_gradient)


def test_reference_kl_estimates_the_divergence_and_is_zero_at_the_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 12, generator=generator, dtype=torch.float64).log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    drawn = torch.multinomial(policy.exp(), 400_000, replacement=True, generator=generator)
    ones = torch.ones(1, len(drawn), dtype=torch.float64)
    estimate = reference_kl_sum(policy[drawn][None], reference[drawn][None], ones, aggregation="token-mean") / len(
        drawn
    )
    assert estimate.item() == pytest.approx(exact.item(), rel=0.01)
    assert reference_kl_sum(policy[None], policy[None], torch.ones(1, 12), aggregation="token-mean").item() == 0
