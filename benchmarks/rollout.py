"""Rollouts: tokens per second of vLLM, of the project's own sampler and of transformers.generate; the cost of a sync.

    python -m benchmarks.rollout                     256 and 1,024 responses of the embedded base, 5 runs of each
    python -m benchmarks.rollout --steps 12          and the share of weight sync in 12 training steps with vLLM
    python -m benchmarks.rollout --seeds 3           learning curves of both backends, seed by seed (minutes)

All three samplers run in one process on one thread, with the same model, prompts, temperature and limits, in turn,
after one run each that does not count. They draw different responses, so tokens are counted, not assumed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.result import Row, compare, show
from trainer.config import TrainerConfig
from trainer.policy import Policy, load_policy
from trainer.problems import embedded_problems
from trainer.prompts import prompt_tokens
from trainer.ranks import ALONE
from trainer.records import Evaluation, read_lines
from trainer.rollout import Request, Sampler, TransformersSampler, left_pad, request_seed
from trainer.train import start_sampler, train

PROMPTS = 32
SAMPLES = (8, 32)
"""To each prompt: as in a training step, and as in an evaluation of the paper."""


def requests(policy: Policy, config: TrainerConfig, run: int, samples: int) -> list[Request]:
    """Groups of equal prompts, as in training; other seeds in every run."""
    prompts = [
        prompt_tokens(policy.tokenizer, each, config.data) for each in embedded_problems("embedded:train")[:PROMPTS]
    ]
    return [
        Request(prompt, request_seed(run, at, sample)) for at, prompt in enumerate(prompts) for sample in range(samples)
    ]


def by_sampler(sampler: Sampler, config: TrainerConfig) -> Callable[[list[Request]], int]:
    """Draws once and returns the tokens drawn."""

    def once(wanted: list[Request]) -> int:
        drawn = sampler.sample(wanted, temperature=1.0, top_p=1.0, max_tokens=config.rollout.max_response_length)
        return sum(len(one.tokens) for one in drawn)

    return once


def by_generate(policy: Policy, config: TrainerConfig) -> Callable[[list[Request]], int]:
    """The same with transformers.generate, one padded batch."""

    def once(wanted: list[Request]) -> int:
        tokens, mask = left_pad([each.prompt for each in wanted], policy.pad_token, "cpu")
        drawn = policy.model.generate(
            tokens, attention_mask=mask, do_sample=True, temperature=1.0, top_p=1.0, top_k=0,
            max_new_tokens=config.rollout.max_response_length, pad_token_id=policy.pad_token,
        )[:, tokens.shape[1] :]  # fmt: skip
        return int((drawn != policy.pad_token).sum())

    return once


def speed(runs: int, samples: int) -> dict[str, list[float]]:
    """Tokens per second of each run, by sampler; without vLLM where it is not installed."""
    config = TrainerConfig.model_validate({"rollout": {"backend": "vllm" if find_spec("vllm") else "transformers"}})
    policy = load_policy(config.model)
    own = TransformersSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    rates: dict[str, list[float]] = {}
    ways = {"own sampler": by_sampler(own, config), "transformers.generate": by_generate(policy, config)}
    with closing(start_sampler(config, policy, ALONE)) as engine:
        engine.sync()
        if config.rollout.backend == "vllm":
            ways["vllm"] = by_sampler(engine, config)
        torch.manual_seed(0)  # for generate, the others have seeds of their own
        for run in range(runs + 1):
            wanted = requests(policy, config, run, samples)
            for name, once in ways.items():
                started = time.perf_counter()
                tokens = once(wanted)
                if run:
                    rates.setdefault(name, []).append(tokens / (time.perf_counter() - started))
    return rates


def rows(runs: int = 5) -> list[Row]:
    """Both of our backends against generate. One thread, as a rank of the tiny recipe has."""
    torch.set_num_threads(1)
    found = []
    for samples in SAMPLES:
        rates = speed(runs, samples)
        theirs = rates.pop("transformers.generate")
        found += [
            compare(
                f"rollout of {PROMPTS * samples:,} responses, tiny model, CPU, {name}", "transformers.generate",
                values, theirs, unit="tokens/s", ratio="ours / peer", target=">= 4",
            )
            for name, values in rates.items()
        ]  # fmt: skip
    return found


def sync_share(steps: int) -> float:
    """Median share of weight sync in the time of a training step without its evaluation."""
    config = TrainerConfig.model_validate({"steps": steps, "rollout": {"backend": "vllm"}})
    with tempfile.TemporaryDirectory() as folder:
        for _ in train(config, Path(folder)):
            pass
        lines = [line for line in read_lines(Path(folder) / "metrics.jsonl") if "seconds/sync" in line]
    phases = ("rollout", "score", "update", "sync")
    return statistics.median(
        line["seconds/sync"] / sum(line.get(f"seconds/{phase}", 0.0) for phase in phases) for line in lines
    )


def curve(backend: str, seed: int) -> dict[int, float]:
    """Accuracy of the set that selects, by step, in a default run. Evaluations draw anew for each seed."""
    config = TrainerConfig.model_validate(
        {"seed": seed, "rollout": {"backend": backend}, "evaluation": {"seed": seed, "completions": 0}}
    )
    with tempfile.TemporaryDirectory() as folder:
        evaluations = (each for each in train(config, Path(folder)) if isinstance(each, Evaluation))
        return {each.step: each.scores[0].accuracy for each in evaluations}


def compare_curves(seeds: int) -> None:
    """Print the mean accuracy of both backends at every evaluation, and their difference.

    The error is that of a difference of means over seeds, from the spread of the runs: the sampling of training and of
    evaluation is in it. The last line is the mean over the evaluations of a run, which sums a curve up.
    """
    curves = {backend: [curve(backend, seed) for seed in range(seeds)] for backend in ("vllm", "transformers")}
    print(f"step  vllm   transformers  difference ± its error, {seeds} seeds")
    for step in (*curves["vllm"][0], "mean"):
        values = {
            backend: [statistics.fmean(each.values()) if step == "mean" else each[step] for each in runs]
            for backend, runs in curves.items()
        }
        ours, theirs = (statistics.fmean(each) for each in values.values())
        error = sum(statistics.variance(each) / seeds for each in values.values()) ** 0.5
        print(f"{step:>4}  {ours:.3f}  {theirs:.3f}         {ours - theirs:+.3f} ± {error:.3f}", flush=True)


def main() -> None:
    """Print what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each sampler")
    parser.add_argument("--steps", type=int, default=0, help="training steps in which sync is timed; 0 is not")
    parser.add_argument("--seeds", type=int, default=0, help="seeds of the learning curves; 0 is none")
    arguments = parser.parse_args()
    if arguments.runs:
        show(rows(arguments.runs))
    if arguments.steps:
        print(f"weight sync takes {sync_share(arguments.steps):.2%} of a training step (limit: 5 %)", flush=True)
    if arguments.seeds:
        compare_curves(arguments.seeds)


if __name__ == "__main__":
    main()
