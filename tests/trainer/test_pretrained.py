"""A model that cannot be trained as it is, is refused with one line; others are scored as transformers does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trainer.config import ModelConfig
from trainer.errors import UserError
from trainer.policy import load_policy, score
from trainer.rollout import Response

SIZES = {
    "vocab_size": 16, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None,
}  # fmt: skip


def without_tokenizer(path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).unlink()


def with_more_ids(path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_tokens(["a", "b"])
    tokenizer.save_pretrained(path)


def with_torn_weights(path: Path) -> None:
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def of_another_width(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_tokenizer, "has no tokenizer that can tell numbers apart; put the tokenizer's files"),
        (with_more_ids, "the tokenizer has ids up to 17, but the embedding only 16 rows"),
        (with_torn_weights, r"cannot be loaded \(.*incomplete"),
        (lambda path: (path / "model.safetensors").unlink(), r"cannot be loaded \(.*model.safetensors"),
        (lambda path: (path / "config.json").write_text("{"), r"cannot be loaded \(.*not a valid JSON"),
        (of_another_width, "holds no weights of the shape in config.json for 26 tensors"),
    ],
)
def test_a_broken_model_is_refused_with_one_line(
    spoil: Callable[[Path], None], message: str, random_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    shutil.copytree(random_model, tmp_path / "model")
    spoil(tmp_path / "model")
    capfd.readouterr()
    with pytest.raises(UserError, match=message) as caught:
        load_policy(ModelConfig(path=str(tmp_path / "model")))
    assert str(caught.value).startswith(f"model.path = {tmp_path / 'model'}: ") and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_tilde_is_the_home_directory(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(random_model.parent))
    policy = load_policy(ModelConfig(path=f"~/{random_model.name}"))
    assert policy.model.name_or_path == str(random_model)  # from which a vLLM engine is started too


def saved(net: torch.nn.Module, random_model: Path, directory: Path) -> Path:
    net.save_pretrained(directory)
    AutoTokenizer.from_pretrained(random_model).save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=16)), "gemma2 has final_logit_softcapping"),
        (lambda: PhiForCausalLM(PhiConfig(**SIZES)), "phi has a bias of the output layer"),
    ],
)
def test_logits_that_are_more_than_a_product_are_refused(
    net: Callable, message: str, random_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        load_policy(ModelConfig(path=str(saved(net(), random_model, tmp_path))))


SEVERAL = [
    Response((2, 3, 4), np.arange(5, 15, dtype=np.int32), np.zeros(10, np.float32), True),
    Response((2, 3), np.array([5, 6, 1, 9], np.int32), np.zeros(4, np.float32), True),
]


@pytest.mark.parametrize(
    "net",
    [
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
        lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)),
        lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=20)),
    ],
    ids=["llama", "qwen3", "mistral"],
)
def test_packed_scores_of_other_architectures_are_theirs(net: Callable, random_model: Path, tmp_path: Path) -> None:
    policy = load_policy(ModelConfig(path=str(saved(net(), random_model, tmp_path))))
    log_probs, _, _ = score(policy, SEVERAL, temperature=1.0, dtype=torch.float32)
    for row, response in enumerate(SEVERAL):
        tokens = torch.tensor([[*response.prompt, *response.tokens.tolist()]])
        log_p = torch.log_softmax(policy.model(tokens).logits[0], -1)[len(response.prompt) - 1 : -1]
        expected = log_p.gather(1, tokens[0, len(response.prompt) :, None]).squeeze(1)
        torch.testing.assert_close(log_probs[row, : len(expected)], expected, rtol=1e-4, atol=1e-5)


def test_a_sequence_beyond_the_attention_window_is_refused(random_model: Path, tmp_path: Path) -> None:
    """Packed attention has no window: without this line the scores would silently be of another model."""
    reaches = saved(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=13)), random_model, tmp_path)
    score(load_policy(ModelConfig(path=str(reaches))), SEVERAL, temperature=1.0, dtype=torch.float32)
    path = saved(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)), random_model, tmp_path)
    with pytest.raises(UserError, match="its attention reaches 8 tokens back, and a sequence has 13"):
        score(load_policy(ModelConfig(path=str(path))), SEVERAL, temperature=1.0, dtype=torch.float32)
