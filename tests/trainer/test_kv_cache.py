"""What is sampled with the growing cache is scored as by a model that has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from trainer.config import ModelConfig
from trainer.kv_cache import LEAST_ROOM
from trainer.policy import load_policy
from trainer.rollout import Request, TransformersSampler, request_seed

SIZES = {
    "vocab_size": 16, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 256, "eos_token_id": 1, "pad_token_id": 0,
    "initializer_range": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    "net",
    [
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
        lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=6)),
    ],
    ids=["growing", "a window of 6"],
)
@pytest.mark.parametrize("prompts", [((5, 6, 7),), ((5, 6, 7), (8,), (9, 2, 3, 4, 5))], ids=["one", "padded"])
def test_shared_prompts_growth_and_rows_that_leave(
    net: Callable, prompts: tuple, random_model: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net().save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(random_model).save_pretrained(tmp_path)
    policy = load_policy(ModelConfig(path=str(tmp_path)))
    sampler = TransformersSampler(policy.model, end_tokens=[1], pad_token=0, device=policy.device)
    wanted = [Request(prompts[at % len(prompts)], request_seed(at)) for at in range(24)]
    drawn = sampler.sample(wanted, temperature=1.0, top_p=1.0, max_tokens=90)
    lengths = sorted(len(each.tokens) for each in drawn)
    assert lengths[0] < 10 and lengths[-1] > LEAST_ROOM + 8  # some left early, and the room had to grow
    for response in drawn:
        tokens = torch.tensor([[*response.prompt, *response.tokens.tolist()]])
        with torch.no_grad():
            log_p = torch.log_softmax(policy.model(tokens).logits[0, len(response.prompt) - 1 : -1], -1)
        expected = log_p.gather(1, tokens[0, len(response.prompt) :, None]).squeeze(1)
        torch.testing.assert_close(torch.from_numpy(response.log_probs), expected, rtol=1e-4, atol=1e-4)
