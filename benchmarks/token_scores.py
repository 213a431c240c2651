"""Peak memory and time of log-probabilities and their gradients, `trainer.token_scores` against plain log_softmax.

    python -m benchmarks.token_scores                                  # a vocabulary of 152,064, 8,192 tokens
    python -m benchmarks.token_scores --tokens 1024 --width 896 --repeats 5

Each measurement is a process of its own: extra memory is the peak beyond the inputs (of the process on a CPU, of
torch's allocator on a GPU), forward and backward together. Prints the ratio of memory (target: at most 1/8), the ratio
of time (target: at most 1.1) and the largest relative difference of the two gradients, in norm (target: 1e-5).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection

import torch

from benchmarks.result import Row, compare, show
from trainer.token_scores import token_scores

MEMORY_TARGET, TIME_TARGET, GRADIENT_TARGET = 1 / 8, 1.1, 1e-5


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """What everybody writes first."""
    return torch.log_softmax(hidden @ weight.T / temperature, -1).gather(1, targets[:, None]).squeeze(1)


def ours(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Gives the entropy as well, which the plain way does not."""
    return token_scores(hidden, weight, targets, temperature=temperature)[0]


WAYS = {"plain": plain, "ours": ours}


def measure(way: str, shape: tuple[int, int, int], device: str, threads: int, pipe: Connection) -> None:
    """Send extra memory in bytes, seconds, and a sample of the gradients."""
    torch.set_num_threads(threads)
    tokens, vocabulary, width = shape
    generator = torch.Generator(device).manual_seed(0)
    hidden = torch.randn(tokens, width, generator=generator, device=device).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator, device=device).mul_(width**-0.5).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), generator=generator, device=device)
    upstream = torch.randn(tokens, generator=generator, device=device)
    first, second = (torch.randn(rows, 8, device=device).requires_grad_() for rows in (2, 64))
    WAYS[way](first, second, targets[:2] % 64, temperature=1.0).sum().backward()  # what torch loads on first use
    before, started = _memory(device), time.perf_counter()
    (WAYS[way](hidden, weight, targets, temperature=1.0) @ upstream).backward()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    assert hidden.grad is not None and weight.grad is not None
    pipe.send((_memory(device) - before, seconds, hidden.grad[::7].cpu().numpy(), weight.grad[::99].cpu().numpy()))


def _memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(way: str, shape: tuple[int, int, int], device: str, threads: int) -> tuple:
    """`measure` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(way, shape, device, threads, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise SystemExit(f"{way}: the process died, most likely for want of memory; lower --tokens") from None
    finally:
        process.join()


def compared(shape: tuple[int, int, int], device: str, threads: int, repeats: int) -> list[Row]:
    """Rows of memory and time; the largest relative difference of the gradients stands in their note."""
    runs: dict[str, list[tuple]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            runs[way].append(measured(way, shape, device, threads))
    gradients = {way: [torch.from_numpy(part) for part in runs[way][0][2:]] for way in WAYS}
    difference = max(
        float((mine - theirs).norm() / theirs.norm())
        for mine, theirs in zip(gradients["ours"], gradients["plain"], strict=True)
    )
    tokens, vocabulary, width = shape
    claim = f"log-probs and gradients of {tokens} tokens, vocabulary {vocabulary}, width {width}, {device}"
    note = f"gradients differ by {difference:.1e} (target {GRADIENT_TARGET:.0e})"
    return [
        compare(
            f"{name} of {claim}", "plain log_softmax",
            *([run[at] / scale for run in runs[way]] for way in ("ours", "plain")),
            unit=unit, ratio="ours / peer", target=f"<= {target:g}", note=note,
        )
        for name, at, scale, unit, target in (
            ("extra memory", 0, 2**30, "GiB", MEMORY_TARGET), ("time", 1, 1.0, "s", TIME_TARGET)
        )
    ]  # fmt: skip


def rows() -> list[Row]:
    """Half the tokens of a paper-sized micro-batch, so that the plain way fits into 16 GiB."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return compared((4096, 152_064, 128), device, 2, 3)


def main() -> None:
    """Print the ratios against their targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=152_064, help="of Qwen2.5")
    parser.add_argument("--width", type=int, default=128, help="hidden size; 896 is Qwen2.5-0.5B, 3584 is 7B")
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many runs, the two ways in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    shape = (options.tokens, options.vocabulary, options.width)
    show(compared(shape, options.device, options.threads, options.repeats))


if __name__ == "__main__":
    main()
