"""The sampler draws from the policy's distribution, whatever the batch a request happens to share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.config import ModelConfig
from trainer.policy import Policy, load_policy, score
from trainer.rollout import Request, TransformersSampler, draw, request_seed


@pytest.fixture(scope="module")
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


@pytest.fixture(scope="module")
def sampler(policy: Policy) -> TransformersSampler:
    return TransformersSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )


def requests(policy: Policy, count: int = 12) -> list[Request]:
    texts = ["1+2=", "12+34=", "7=", "123+4+5="]
    return [
        Request(tuple(policy.tokenizer(texts[i % len(texts)])["input_ids"]), request_seed(7, i)) for i in range(count)
    ]


def test_greedy_equals_transformers_generate(policy: Policy, sampler: TransformersSampler) -> None:
    ours = sampler.sample(requests(policy), temperature=1e-6, top_p=1.0, max_tokens=30)
    for response in ours:
        prompt = torch.tensor([response.prompt])
        theirs = policy.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=30
        )
        assert response.tokens.tolist() == theirs[0, len(response.prompt) :].tolist()


def test_a_sample_depends_on_its_own_seed_only(policy: Policy, sampler: TransformersSampler) -> None:
    together = sampler.sample(requests(policy), temperature=1.0, top_p=1.0, max_tokens=20)
    alone = [sampler.sample([each], temperature=1.0, top_p=1.0, max_tokens=20)[0] for each in requests(policy)]
    backwards = sampler.sample(requests(policy)[::-1], temperature=1.0, top_p=1.0, max_tokens=20)[::-1]
    assert [list(r.tokens) for r in together] == [list(r.tokens) for r in alone] == [list(r.tokens) for r in backwards]


def test_responses_end_at_the_first_end_token_or_at_the_limit(policy: Policy, sampler: TransformersSampler) -> None:
    drawn = sampler.sample(requests(policy, 200), temperature=1.5, top_p=1.0, max_tokens=8)
    assert {r.finished for r in drawn} == {True, False}
    for response in drawn:
        ends = [token in policy.end_tokens for token in response.tokens]
        assert not any(ends[:-1])
        assert ends[-1] == response.finished
        assert response.finished or len(response.tokens) == 8
        assert len(response.log_probs) == len(response.tokens)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_its_log_probs_are_the_trainers(policy: Policy, sampler: TransformersSampler, temperature: float) -> None:
    drawn = sampler.sample(requests(policy), temperature=temperature, top_p=1.0, max_tokens=20)
    log_probs, entropy, mask = score(policy, drawn, temperature=temperature, dtype=torch.float32)
    for row, response in enumerate(drawn):
        torch.testing.assert_close(
            log_probs[row, : len(response.tokens)], torch.from_numpy(response.log_probs), rtol=1e-4, atol=1e-4
        )
        assert mask[row].sum() == len(response.tokens)
    assert (log_probs * (1 - mask)).abs().sum() == 0
    assert (entropy * mask >= 0).all()


def test_draws_follow_the_distribution() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    uniforms = (torch.arange(10_000) + 0.5) / 10_000
    drawn = draw(p.log().expand(10_000, 4), uniforms, 1.0)
    assert torch.bincount(drawn, minlength=4).tolist() == [5000, 3000, 1500, 500]


def test_top_p_keeps_the_smallest_nucleus() -> None:
    p = torch.tensor([0.05, 0.5, 0.15, 0.3])
    uniforms = (torch.arange(10_000) + 0.5) / 10_000
    drawn = torch.bincount(draw(p.log().expand(10_000, 4), uniforms, 0.7), minlength=4)
    assert drawn.tolist() == [0, 6250, 0, 3750]  # {0.5, 0.3} reaches 0.7; 0.5 alone does not


def test_seeds_fit_into_a_signed_integer() -> None:
    """Which is what engines take."""
    assert all(0 <= request_seed(0, number) < 2**63 for number in range(100))
