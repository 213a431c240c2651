"""`python -m trainer.export CONFIG --run DIR --out DIR`: the trained policy of a run as a Hugging Face directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from trainer.checkpoint import complete, load_weights
from trainer.config import ModelConfig, TrainerConfig
from trainer.config_file import read_config
from trainer.errors import UserError
from trainer.policy import load_policy
from trainer.records import appearing


def export_policy(config: TrainerConfig, run: Path, out: Path) -> Path:
    """`write_policy` of the newest checkpoint of `run`, which is returned.

    Raises:
        UserError: `run` has no checkpoint that fits `config.model`, or `out` exists or cannot be written.
    """
    kept = complete(run / "checkpoints")
    if not kept:
        raise UserError(f"--run {run}: has no checkpoint; give the directory of a run that has reached one")
    if out.exists():
        raise UserError(f"--out {out}: exists; choose another directory")
    write_policy(config.model, kept[-1], out)
    return kept[-1]


def write_policy(config: ModelConfig, checkpoint: Path, out: Path, *, card: str | None = None) -> None:
    """Write model (safetensors, in `config.dtype`) and tokenizer to `out`, which appears whole or not at all.

    Args:
        card: text of a README.md beside them.

    Raises:
        UserError: the checkpoint does not fit `config.path`, or `out` cannot be written.
    """
    policy = load_policy(config.model_copy(update={"cpu_offload": False}))
    load_weights(checkpoint, policy.model)
    policy.model.to(getattr(torch, config.dtype))
    try:
        with appearing(out) as partial:
            policy.model.save_pretrained(partial)
            policy.tokenizer.save_pretrained(partial)
            if card is not None:
                (partial / "README.md").write_text(card, encoding="utf-8")
            for file in partial.iterdir():
                file.chmod(0o644)  # safetensors keeps its file to its owner
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); choose another place") from None


def main(words: list[str] | None = None) -> int:
    """Export one run. Exit code 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m trainer.export", description=__doc__)
    parser.add_argument("config", type=Path, help="the run's trainer config (YAML)")
    parser.add_argument("--run", type=Path, required=True, help="directory of the run")
    parser.add_argument("--out", type=Path, required=True, help="directory to write; it must not exist")
    arguments = parser.parse_args(words)
    try:
        config = read_config(TrainerConfig, arguments.config)
        print(f"{arguments.out}: the policy of {export_policy(config, arguments.run, arguments.out)}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
