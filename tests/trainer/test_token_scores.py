"""Chunked log-probabilities equal plain log_softmax, values and gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from trainer.token_scores import CHUNK_ELEMENTS, token_scores


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float) -> tuple:
    log_p = torch.log_softmax((hidden @ weight.T).float() / temperature, dim=-1) if hidden.dtype != torch.float64 else (
        torch.log_softmax(hidden @ weight.T / temperature, dim=-1)
    )  # fmt: skip
    return log_p.gather(1, targets[:, None]).squeeze(1), -(log_p.exp() * log_p).sum(-1)


def inputs(tokens: int, vocabulary: int, width: int, dtype: torch.dtype, seed: int = 0) -> tuple:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=g, dtype=dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=g, dtype=dtype).requires_grad_()
    return hidden, weight, torch.randint(vocabulary, (tokens,), generator=g), torch.randn(tokens, generator=g)


@settings(deadline=None, max_examples=25)
@given(
    tokens=st.integers(1, 40),
    chunk=st.integers(1, 2000),
    temperature=st.sampled_from([0.6, 1.0, 1.7]),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_equal_plain_log_softmax(tokens: int, chunk: int, temperature: float, seed: int) -> None:
    hidden, weight, targets, upstream = inputs(tokens, 53, 16, torch.float64, seed)
    ours, entropy = token_scores(hidden, weight, targets, temperature=temperature, chunk_elements=chunk)
    gradients = torch.autograd.grad(ours @ upstream.double(), (hidden, weight))
    theirs, their_entropy = plain(hidden, weight, targets, temperature)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(entropy, their_entropy.detach(), rtol=1e-10, atol=1e-12)
    expected = torch.autograd.grad(theirs @ upstream.double(), (hidden, weight))
    torch.testing.assert_close(gradients, expected, rtol=1e-10, atol=1e-12)


def test_gradients_pass_a_numerical_check() -> None:
    hidden, weight, targets, _ = inputs(5, 11, 4, torch.float64)
    assert gradcheck(lambda h, w: token_scores(h, w, targets, temperature=0.8, chunk_elements=22)[0], (hidden, weight))


def test_float32_gradients_are_within_a_part_in_100_000() -> None:
    hidden, weight, targets, upstream = inputs(300, 5000, 64, torch.float32)
    ours = torch.autograd.grad(token_scores(hidden, weight, targets, temperature=1.0)[0] @ upstream, (hidden, weight))
    exact_in = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    exact = torch.autograd.grad(plain(*exact_in, targets, 1.0)[0] @ upstream.double(), exact_in)
    for mine, truth in zip(ours, exact, strict=True):
        assert (mine - truth).norm() / truth.norm() < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_hidden_states_still_give_float32_scores(dtype: torch.dtype) -> None:
    hidden, weight, targets, upstream = inputs(20, 50, 8, torch.float32)
    ours, entropy = token_scores(hidden.to(dtype), weight, targets, temperature=1.0)
    assert ours.dtype == entropy.dtype == torch.float32
    gradients = torch.autograd.grad(ours @ upstream, (hidden, weight))
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


def test_bfloat16_hidden_states_give_a_float32_weight_the_gradient_of_all_chunks() -> None:
    hidden, weight, targets, upstream = inputs(40, 53, 16, torch.float32)
    low = hidden.detach().to(torch.bfloat16).requires_grad_()

    def gradients(chunk: int) -> tuple[torch.Tensor, ...]:
        scores, _ = token_scores(low, weight, targets, temperature=0.8, chunk_elements=chunk)
        return torch.autograd.grad(scores @ upstream, (low, weight))

    for chunked, whole in zip(gradients(53 * 7), gradients(53 * 40), strict=True):
        assert (chunked - whole).norm() < 0.01 * whole.norm()


def test_the_entropy_can_be_left_out() -> None:
    hidden, weight, targets, _ = inputs(20, 50, 8, torch.float64)
    log_probs, entropy = token_scores(hidden, weight, targets, temperature=1.0, wants_entropy=False)
    torch.testing.assert_close(log_probs, token_scores(hidden, weight, targets, temperature=1.0)[0], rtol=0, atol=0)
    assert not entropy.any()


def peak(way: Callable[..., torch.Tensor], shape: tuple[int, int, int]) -> int:
    """The most bytes that forward and backward hold at a time beyond their inputs, as torch's allocator tells them."""
    hidden, weight, targets, upstream = inputs(*shape, torch.float32)
    with torch.profiler.profile(profile_memory=True) as profiler:
        (way(hidden, weight, targets) @ upstream).backward()
    held = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(held))


def test_forward_and_backward_need_an_eighth_of_the_memory_of_plain_log_softmax() -> None:
    """A chunk is the share of the whole that it is at 8,192 tokens and a vocabulary of 152,064 (benchmarks/)."""
    tokens, vocabulary = 1024, 4000
    chunk = tokens * vocabulary * CHUNK_ELEMENTS // (8192 * 152_064)
    ours = peak(lambda *each: token_scores(*each, temperature=0.7, chunk_elements=chunk)[0], (tokens, vocabulary, 16))
    theirs = peak(lambda *each: plain(*each, 0.7)[0], (tokens, vocabulary, 16))
    assert theirs > 2 * tokens * vocabulary * 4
    assert ours < theirs / 8
