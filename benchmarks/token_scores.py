"""Memory of the log-prob step: chunked output layer against plain log_softmax, at the paper's vocabulary.

    python -m benchmarks.token_scores                        8,192 tokens x 152,064 words (needs 18 GB free; a minute)
    python -m benchmarks.token_scores --tokens 1024          a small one, in which the chunks weigh more

Prints the peak of extra memory of forward and backward, of each and as a ratio, and how far gradients differ. Both run
in float32 on a CPU; the peak is that of the process's resident memory (Linux), reset before each.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from trainer.token_scores import CHUNK_ELEMENTS, token_scores

LIMIT = 1 / 8
Gradients = tuple[Tensor, Tensor]


def peak_memory(call: Callable[[], Gradients]) -> tuple[int, Gradients]:
    """Bytes by which resident memory rises at most during `call`, and what it returns."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    before = _status("VmRSS")
    result = call()
    return _status("VmHWM") - before, result


def _status(field: str) -> int:
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, upstream: Tensor) -> Gradients:
    """All logits at once. No entropy, which would need them once more."""
    log_p = torch.log_softmax(hidden @ weight.T, dim=-1)
    return torch.autograd.grad(log_p.gather(1, targets[:, None]).squeeze(1) @ upstream, (hidden, weight))


def chunked(
    hidden: Tensor, weight: Tensor, targets: Tensor, upstream: Tensor, chunk_elements: int = CHUNK_ELEMENTS
) -> Gradients:
    """Log-probs and entropy, as in training."""
    log_probs, _ = token_scores(hidden, weight, targets, temperature=1.0, chunk_elements=chunk_elements)
    return torch.autograd.grad(log_probs @ upstream, (hidden, weight))


def inputs(tokens: int, vocabulary: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random hidden states, output embedding, targets and upstream gradient."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=generator).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator).requires_grad_()
    return (
        hidden,
        weight,
        torch.randint(vocabulary, (tokens,), generator=generator),
        torch.randn(tokens, generator=generator),
    )


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=152_064)
    parser.add_argument("--width", type=int, default=64, help="of the hidden states; the model's own adds little here")
    arguments = parser.parse_args()
    given = inputs(arguments.tokens, arguments.vocabulary, arguments.width)
    few, ours = peak_memory(lambda: chunked(*given))
    many, theirs = peak_memory(lambda: plain(*given))
    far = max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))
    print(f"{arguments.tokens} tokens x {arguments.vocabulary} words: plain {many / 2**30:.2f} GiB,", end=" ")
    print(f"chunked {few / 2**30:.2f} GiB, ratio 1/{many / few:.0f} (limit 1/{1 / LIMIT:.0f}),", end=" ")
    print(f"gradients differ by {far:.1e} relative (limit 1e-5)")


if __name__ == "__main__":
    main()
