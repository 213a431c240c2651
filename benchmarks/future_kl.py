"""FutureKL: time against the paper's chunked matmul, and how memory grows with the length of responses.

    python -m benchmarks.future_kl                                     # B=8, L=20,480, the paper's longest response
    python -m benchmarks.future_kl --length 4096 --device cuda

The paper (arXiv 2603.19835, Listing 1) sums chunk by chunk with a matrix of discounts from every token to those of the
chunk: O(B L^2) work. `trainer.losses.future_kl` is a blocked scan. Both run on one thread, in turn, after their results
were found equal. Memory is the peak of the process beyond the inputs, at lengths far above what is trained on, where
it stands out from what a process takes anyway.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.result import Row, compare, show
from trainer.losses import future_kl

GAMMA = 2 ** (-1 / 32)
CHUNK = 128
CALLS = 50
"""Calls of ours in one timed run; one takes a few milliseconds."""
LONG = [2**power for power in range(20, 24)]
"""Lengths at which memory is taken, in tokens: a table is 32 MiB and more, which goes back to the system when freed."""


def chunked_matmul(log_ratio: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """The paper's way: [B, L]. Every chunk of summed tokens meets every token, those behind it with a discount of 0."""
    values = log_ratio * mask
    place = torch.arange(values.shape[1], device=values.device)
    total = torch.zeros_like(values)
    for start in range(0, len(place), CHUNK):
        ahead = place[start : start + CHUNK] - place[:, None]
        discounts = torch.where(ahead >= 0, gamma ** ahead.clamp(min=0), 0.0).to(values.dtype)
        total += values[:, start : start + CHUNK] @ discounts.T
    return total


def inputs(batch: int, length: int, device: str) -> tuple[Tensor, Tensor]:
    """Log-ratios as after an update, of responses of 1 to L tokens."""
    generator = torch.Generator().manual_seed(0)
    log_ratio = 0.05 * torch.randn(batch, length, generator=generator)
    lengths = torch.randint(1, length + 1, (batch, 1), generator=generator)
    return log_ratio.to(device), (torch.arange(length) < lengths).float().to(device)


def seconds(way: Callable[..., Tensor], given: tuple[Tensor, Tensor], calls: int) -> float:
    """Seconds of one call, the mean of `calls`."""
    started = time.perf_counter()
    for _ in range(calls):
        way(*given, gamma=GAMMA)
    if given[0].is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


def speed(batch: int, length: int, device: str, runs: int) -> Row:
    """Ours against the chunked matmul. Raises AssertionError when they disagree."""
    torch.set_num_threads(1)
    given = inputs(batch, length, device)
    torch.testing.assert_close(
        future_kl(*given, gamma=GAMMA), chunked_matmul(*given, gamma=GAMMA), rtol=1e-4, atol=1e-5
    )
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(seconds(future_kl, given, CALLS) * 1e3)
        theirs.append(seconds(chunked_matmul, given, 1) * 1e3)
    return compare(
        f"FutureKL, B={batch}, L={length:,}, {device}", "chunked matmul of the paper's Listing 1", ours, theirs,
        unit="ms", ratio="peer / ours", target=">= 1000" if device == "cpu" else ">= 20",
    )  # fmt: skip


def peak(length: int) -> int:
    """Bytes that one call needs beyond its inputs, B = 8. From Linux, which can be asked to forget an earlier peak."""
    given = inputs(8, length, "cpu")
    Path("/proc/self/clear_refs").write_text("5")
    before = kibibytes("VmRSS")
    future_kl(*given, gamma=GAMMA)
    return 1024 * (kibibytes("VmHWM") - before)


def kibibytes(name: str) -> int:
    """Memory of this process: VmRSS as it is, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def memory() -> Row:
    """Growth of extra memory each time that L doubles; the limit is twice, that of the inputs."""
    peaks = [peak(length) for length in LONG]
    growth = [after / before for before, after in pairwise(peaks)]
    tables = statistics.median(bytes_ / (8 * length * 4) for bytes_, length in zip(peaks, LONG, strict=True))
    return compare(
        f"FutureKL's extra memory when L doubles, {LONG[0]:,} to {LONG[-1]:,}", "twice, which is O(B L)",
        growth, [2.0] * len(growth), unit="x", ratio="ours / peer", target="<= 1.05",
        note=f"{tables:.1f} tables of [B, L] beside the two inputs",
    )  # fmt: skip


def rows() -> list[Row]:
    """The paper's longest response on the CPU, and memory."""
    return [speed(8, 20_480, "cpu", 5), memory()]


def main() -> None:
    """Print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=20_480, help="tokens")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each way")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    show([speed(options.batch, options.length, options.device, options.runs), memory()])


if __name__ == "__main__":
    main()
