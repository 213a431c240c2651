"""`torchrun --nproc-per-node 8 -m trainer CONFIG --out DIR [--resume]`: one run on several ranks."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from trainer.config import TrainerConfig
from trainer.config_file import read_config
from trainer.errors import RankLost, TrainingDiverged, UserError
from trainer.train import train


def main(words: list[str] | None = None) -> int:
    """Train, printing every evaluation on rank 0. Exit code 2 for bad input, 1 for a run that went bad.

    Args:
        words: the command line after the program's name; sys.argv by default.
    """
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    parser.add_argument("config", type=Path, help="trainer config (YAML), for example from `fipo export`")
    parser.add_argument("--out", type=Path, required=True, help="directory of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    arguments = parser.parse_args(words)
    first = os.environ.get("RANK", "0") == "0"
    first_of_node = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        config = read_config(TrainerConfig, arguments.config)
        for evaluation in train(config, arguments.out, resume=arguments.resume):
            if first:
                print(evaluation, flush=True)
    except (UserError, TrainingDiverged, RankLost) as error:
        # The same on every rank, but for what only one rank can know, or those of one machine, as a missing file.
        if first_of_node or isinstance(error, RankLost) or error.__cause__ is not None:
            print(error, file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
