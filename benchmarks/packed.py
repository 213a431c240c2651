"""Training tokens per second, sequences packed as the trainer packs them, against the same update on padded batches.

    python -m benchmarks.packed                       # 32 responses, 16 to a micro-batch, and 4 to a micro-batch
    python -m benchmarks.packed --sequences 8 --mean 1000 --runs 5

Lengths are lognormal with the spread of the paper's responses at a mean of 10,000 tokens (arXiv 2603.19835, Figure 3:
quartiles 0.75 and 1.25 of the mean, which is sigma = 0.4) and are cut at twice the mean, the paper's 20,480; scaled
down to a mean of 500 here. Both sides run `trainer.update.update`, the same loss and the same optimizer; the padded
side swaps the one function that scores responses. It pads on the right to the longest of its micro-batch, in the order
of sampling, and is spared what frameworks usually add: it builds no attention mask (causal attention never looks at
padding that lies behind) and takes no logits of prompts or padding. Loss and gradient norm of both are compared first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.result import Row, compare, show
from trainer import update as updates
from trainer.config import ModelConfig, TrainerConfig
from trainer.policy import Policy, load_policy, micro_batches, score
from trainer.ranks import ALONE
from trainer.rollout import Response
from trainer.token_scores import token_scores
from trainer.tokenizer import character_tokenizer

SIGMA = 0.4
PROMPT = 32
"""Tokens."""
MINIBATCHES = 2


def model_directory(folder: str) -> str:
    """A random Qwen2 of 4 layers and 256 wide, at which matmuls are most of the time, as in a large model."""
    words = character_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=32_768, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def responses(count: int, mean: int, seed: int) -> list[Response]:
    """Random tokens at the paper's spread of lengths."""
    rng = np.random.default_rng(seed)
    lengths = (mean * rng.lognormal(-(SIGMA**2) / 2, SIGMA, count)).clip(1, 2 * mean).astype(int)
    drawn = [rng.integers(2, 16, length).astype(np.int32) for length in lengths]
    prompt = tuple(rng.integers(2, 16, PROMPT).tolist())
    return [Response(prompt, tokens, np.zeros(len(tokens), np.float32), True) for tokens in drawn]


def padded_score(
    policy: Policy, responses: Sequence[Response], *, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """`trainer.policy.score` on a right-padded batch."""
    counts = torch.tensor([len(each.tokens) for each in responses])
    lengths = torch.tensor([len(each.prompt) for each in responses]) + counts
    tokens = torch.full((len(responses), int(lengths.max())), policy.pad_token)
    for row, each in enumerate(responses):
        tokens[row, : int(lengths[row])] = torch.from_numpy(np.concatenate([each.prompt, each.tokens]))
    row = torch.arange(len(responses)).repeat_interleave(counts)
    slot = torch.arange(len(row)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = (lengths - counts)[row] + slot
    hidden = policy.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    log_probs, entropy = token_scores(
        hidden[row, place - 1], policy.model.get_output_embeddings().weight, tokens[row, place],
        temperature=temperature, wants_entropy=not torch.is_grad_enabled(),
    )  # fmt: skip
    empty = torch.zeros(len(responses), int(counts.max()))
    padded = [empty.index_put((row, slot), values) for values in (log_probs, entropy, torch.ones_like(entropy))]
    return padded[0], padded[1], padded[2]


def batch(
    policy: Policy, drawn: list[Response], way: Callable[..., tuple], cut: Callable[[list[Response]], list[list[int]]]
) -> updates.OldScores:
    """Minibatches of micro-batches, as `cut` makes them, with old log-probs a little off the policy's."""
    parts = []
    size = len(drawn) // MINIBATCHES
    for start in range(0, len(drawn), size):
        minibatch = drawn[start : start + size]
        parts.append([])
        for rows in cut(minibatch):
            chosen = [minibatch[row] for row in rows]
            with torch.no_grad():
                old, _, mask = way(policy, chosen, temperature=1.0, dtype=torch.float32)
            advantages = torch.tensor([[1.0 if len(each.tokens) % 2 else -1.0] for each in chosen])
            parts[-1].append(updates.MicroBatch(chosen, advantages, old - 0.05 * mask, mask, None))
    return updates.OldScores(parts, {})


def speed(sequences: int, mean: int, runs: int, target: str = "") -> Row:
    """Tokens per second of both; `sequences` of them to a padded micro-batch, and as many tokens to a packed one."""
    torch.set_num_threads(1)
    config = TrainerConfig()
    drawn = responses(MINIBATCHES * max(sequences, 16), mean, seed=0)
    tokens = sum(PROMPT + len(each.tokens) for each in drawn)
    room = sequences * tokens // len(drawn)
    ways = {
        "packed": (score, lambda part: micro_batches([PROMPT + len(each.tokens) for each in part], room)),
        "padded": (
            padded_score, lambda part: [list(range(at, at + sequences)) for at in range(0, len(part), sequences)]
        ),
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in ways}
    first: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = model_directory(folder)
        for run in range(runs + 1):
            for name, (way, cut) in ways.items():
                policy = load_policy(ModelConfig(path=path))
                optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-5)
                old = batch(policy, drawn, way, cut)
                started = time.perf_counter()
                with patch.object(updates, "score", way):
                    told = updates.update(policy, ALONE, optimizer, old, config, step=1)
                if run:  # the first does not count
                    rates[name].append(tokens / (time.perf_counter() - started))
                first.setdefault(name, told)
    for key in ("loss", "grad_norm", "future_kl/mean"):
        torch.testing.assert_close(first["packed"][key], first["padded"][key], rtol=1e-3, atol=1e-5)
    return compare(
        f"update on packed sequences, mean {mean} tokens, {sequences} to a micro-batch, CPU", "padded batches",
        rates["packed"], rates["padded"], unit="tokens/s", ratio="ours / peer", target=target,
    )  # fmt: skip


def rows() -> list[Row]:
    """With many sequences to a micro-batch, the longest of many pads the others; with few the gain is smaller."""
    return [speed(16, 500, 3, ">= 1.8"), speed(4, 500, 3)]


def main() -> None:
    """Print both, or what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, help="to a padded micro-batch")
    parser.add_argument("--mean", type=int, default=500, help="tokens of a response")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each way")
    options = parser.parse_args()
    show([speed(options.sequences, options.mean, options.runs)] if options.sequences else rows())


if __name__ == "__main__":
    main()
