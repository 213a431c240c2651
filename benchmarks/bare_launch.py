"""The least that anyone's Ray Tune study of a Hugging Face policy does before its first training step.

    python -m benchmarks.bare_launch OUT

Tune with its own OptunaSearch, as many trials at once as `fipo launch` runs by default, each in the one process that
Tune gives it: it imports torch and transformers' Qwen2, makes a policy of the embedded one's size, and takes a step of
AdamW on random tokens. No rollout, no reward, no evaluation, no checkpoint, nothing kept. OUT appears after the first
step. The peer of `benchmarks.startup`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

TRIALS = 2


def trainable(out: Path) -> type:
    """One step of a tiny policy, and `out` is there."""
    from ray import tune

    class Bare(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            import torch
            from transformers import Qwen2Config, Qwen2ForCausalLM

            torch.set_num_threads(1)
            tiny = Qwen2Config(
                vocab_size=64,
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
            )
            self.policy = Qwen2ForCausalLM(tiny)
            self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=config["lr"])

        def step(self) -> dict[str, Any]:
            import torch

            tokens = torch.randint(64, (32, 32))
            self.policy(input_ids=tokens, labels=tokens).loss.backward()
            self.optimizer.step()
            out.touch()
            return {"value": 0.5, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing to keep."""

    return Bare


def main() -> int:
    """Run it to the end of its trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file that appears after the first training step")
    out = parser.parse_args().out.absolute()
    from study.cluster import prepare_environment

    prepare_environment(local=True)
    import optuna
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", include_dashboard=False, logging_level="error", log_to_driver=False)
    space = {"lr": optuna.distributions.FloatDistribution(1e-5, 1e-3, log=True)}
    with tempfile.TemporaryDirectory(prefix="bare-") as scratch:
        tune.Tuner(
            tune.with_resources(trainable(out), {"cpu": 1}),
            tune_config=tune.TuneConfig(search_alg=OptunaSearch(space, metric="value", mode="max"), num_samples=TRIALS),
            run_config=tune.RunConfig(name="tune", storage_path=scratch, verbose=0),
        ).fit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
