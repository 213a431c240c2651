"""Scores of a response do not depend on what is packed beside it; bad models are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import attention
from trainer.config import ModelConfig
from trainer.errors import UserError
from trainer.policy import Policy, load_policy, score
from trainer.rollout import Response


@pytest.fixture(scope="module")
def policy(random_model: Path) -> Policy:
    policy = load_policy(ModelConfig(path=str(random_model)))
    policy.model.double()
    return policy


responses = st.lists(
    st.builds(
        lambda prompt, tokens: Response(
            tuple(prompt), np.array(tokens, np.int32), np.zeros(len(tokens), np.float32), True
        ),
        st.lists(st.integers(2, 15), min_size=1, max_size=9),
        st.lists(st.integers(1, 15), min_size=1, max_size=20),
    ),
    min_size=1,
    max_size=5,
)


def score_alone(policy: Policy, response: Response) -> torch.Tensor:
    """The plain way: one sequence, transformers' own forward and logits."""
    tokens = torch.tensor([[*response.prompt, *response.tokens.tolist()]])
    log_p = torch.log_softmax(policy.model(tokens).logits[0], -1)
    first = len(response.prompt)
    return log_p[first - 1 : -1].gather(1, tokens[0, first:, None]).squeeze(1)


@settings(deadline=None, max_examples=30)
@given(responses, st.sampled_from([0, 1000]))
def test_packing_leaves_log_probs_and_gradients_unchanged(policy: Policy, batch: list[Response], short: int) -> None:
    parameters = list(policy.model.parameters())
    with mock.patch.object(attention, "SHORT", short):  # both ways: one sequence at a time, and padded side by side
        log_probs, _, mask = score(policy, batch, temperature=1.0, dtype=torch.float32)
    upstream = torch.randn(log_probs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients = torch.autograd.grad((log_probs * upstream).sum(), parameters)
    alone = [score_alone(policy, each) for each in batch]
    for row, expected in enumerate(alone):
        torch.testing.assert_close(log_probs[row, : len(expected)], expected, rtol=1e-9, atol=1e-9)
        assert mask[row].tolist() == [1.0] * len(expected) + [0.0] * (mask.shape[1] - len(expected))
    total = sum((a * upstream[row, : len(a)]).sum() for row, a in enumerate(alone))
    for ours, theirs in zip(gradients, torch.autograd.grad(total, parameters), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_bfloat16_scores_are_close_to_float32(policy: Policy) -> None:
    batch = [Response((2, 7, 8), np.arange(2, 14, dtype=np.int32), np.zeros(12, np.float32), True)]
    policy.model.float()
    exact, _, _ = score(policy, batch, temperature=1.0, dtype=torch.float32)
    rough, _, _ = score(policy, batch, temperature=1.0, dtype=torch.bfloat16)
    policy.model.double()
    assert 0 < (exact - rough).abs().max() < 0.5


def test_a_model_without_an_end_of_sequence_token_is_one_line(random_model: Path, tmp_path: Path) -> None:
    endless = shutil.copytree(random_model, tmp_path / "endless")
    nothing = {"eos_token_id": None, "eos_token": None, "tokenizer_class": "PreTrainedTokenizerFast"}
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        (endless / name).write_text(json.dumps(json.loads((endless / name).read_text()) | nothing))
    with pytest.raises(UserError, match=r"has no end-of-sequence token; set eos_token_id in its config$"):
        load_policy(ModelConfig(path=str(endless)))


@pytest.mark.parametrize("path", ["./nowhere", "/nonexistent/model"])
def test_a_missing_model_is_one_line(path: str) -> None:
    with pytest.raises(UserError, match=rf"model.path = {path}: no model there .*hub name"):
        load_policy(ModelConfig(path=path))
