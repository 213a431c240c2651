"""Checkpoints of a run: torch.distributed.checkpoint, whole or not there, loadable by any number of ranks.

DCP keeps its table of contents as a pickle: resume only from a directory that you trust.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from transformers import PreTrainedModel

from trainer.errors import UserError
from trainer.policy import Policy
from trainer.ranks import Ranks, says_lost

log = logging.getLogger(__name__)

_MARKER = "run.json"
_UNREADABLE = (dcp.CheckpointException, OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError)
_CUT_SHORT = "unexpected pos"
"""Of torch's zip writer, where the disk took less than it was given; it does not say why."""

# DCP warns on every call that a single process was meant; `no_dist` below means it.
warnings.filterwarnings("ignore", message="torch.distributed is disabled", module="torch.distributed.checkpoint")


@dataclass(frozen=True)
class Position:
    """Where a run stands. Samples are seeded by step, so there is no random state to keep."""

    step: int
    problems_taken: int
    tokens: int
    seconds: float


def save(
    directory: Path, policy: Policy, optimizer: torch.optim.Optimizer, position: Position, ranks: Ranks, *, keep: int
) -> None:
    """Write `directory/step-<n>` under a temporary name, the marker last, then rename; keep the newest `keep`.

    Raises:
        OSError: the disk is full, or does not take it. What was written is removed.
    """
    final = directory / f"step-{position.step:06d}"
    partial = directory / f".{final.name}.partial"
    if ranks.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
    ranks.barrier()
    fresh = not optimizer.state
    model_state, optimizer_state = get_state_dict(policy.model, optimizer)
    if fresh:  # torch has made it by a step with rate 0, which the bias correction of the first real one would count
        for each in optimizer.state.values():
            each["step"].zero_()
    try:
        dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=partial, no_dist=ranks.size == 1)
    except dcp.CheckpointException as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise (_of_the_disk(error, directory) or error) from error
    if ranks.rank == 0:
        with (partial / _MARKER).open("w") as file:
            json.dump(asdict(position) | {"shapes": _shapes(policy.model)}, file)
            file.flush()
            os.fsync(file.fileno())
        if final.exists():  # one that could not be read
            shutil.rmtree(final)
        partial.rename(final)
        kept = complete(directory)[-keep:]
        for old in directory.glob("*step-*"):  # also what a killed process left half written or half removed
            if old not in kept:
                (old / _MARKER).unlink(missing_ok=True)
                shutil.rmtree(old)
    ranks.barrier()


def _of_the_disk(error: dcp.CheckpointException, directory: Path) -> OSError | None:
    """What the disk said to a rank that wrote, None where it is not at fault."""
    for cause, _ in error.failures.values():
        if isinstance(cause, OSError):
            return cause
        if _CUT_SHORT in str(cause):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))
    return None


def complete(directory: Path) -> list[Path]:
    """The whole checkpoints below `directory`, oldest first."""
    return sorted(path.parent for path in directory.glob(f"step-*/{_MARKER}"))


def load_newest(directory: Path, policy: Policy, optimizer: torch.optim.Optimizer, ranks: Ranks) -> Position | None:
    """Load the newest checkpoint that can be read into model and optimizer; None when there is none.

    Rank 0 chooses it. Each rank could look for itself only if a network file system showed all of them the same.

    Raises:
        UserError: the newest readable checkpoint is of another architecture, there are some and none can be read, or a
            rank does not see what rank 0 does. Every rank raises it.
    """
    views = ranks.gather_json([_markers(directory)], ranks.size)
    chosen, reason = views[0], ""
    for rank, view in enumerate(views):
        if newer := [name for name in view if name > max(chosen, default="")]:  # rank 0 would write over its run
            raise UserError(_seen_by_some(directory / newer[-1], f"rank {rank} sees it and rank 0 does not"))
    for name in reversed(chosen):
        path, marker = directory / name, chosen[name]
        try:
            shapes = marker["shapes"]
            position = Position(**{key: value for key, value in marker.items() if key != "shapes"})
        except (KeyError, TypeError, AttributeError) as error:
            reason = reason or (marker if isinstance(marker, str) else str(error))
            continue
        for rank, view in enumerate(views):
            if view.get(name) != marker:
                raise UserError(_seen_by_some(path, f"rank 0 sees it and rank {rank} does not, or another one"))
        if shapes != _shapes(policy.model):
            raise UserError(
                f"{path}: is a checkpoint of another architecture than model.path; give its model or a new directory"
            )
        model_state, optimizer_state = get_state_dict(policy.model, optimizer)
        state = {"model": model_state, "optimizer": optimizer_state}
        try:
            dcp.load(state, checkpoint_id=path, no_dist=ranks.size == 1)
        except _UNREADABLE as error:
            if ranks.size > 1 and says_lost(error):
                raise
            reason = reason or str(error)
            log.warning("%s: is damaged and left out; going on from the checkpoint before it", path)
            continue
        set_state_dict(policy.model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        return position
    if chosen:  # to start over would throw away what the user asked to go on from, and weights may be half loaded
        raise UserError(f"{directory}: no checkpoint can be read ({_line(reason)}); mend it, or give a new directory")
    return None


def load_weights(path: Path, model: PreTrainedModel) -> None:
    """The model of checkpoint `path`, in one process; the optimizer's state, twice as large, is left where it is.

    Raises:
        UserError: it cannot be read into this model.
    """
    state = {"model": get_model_state_dict(model)}
    try:
        dcp.load(state, checkpoint_id=path, no_dist=True)
    except _UNREADABLE as error:
        raise UserError(
            f"{path}: cannot be read into model.path ({_line(str(error))}); give the model it was trained from"
        ) from None
    set_model_state_dict(model, state["model"])


def _markers(directory: Path) -> dict[str, Any]:
    """What this rank reads of the whole checkpoints below `directory`, by name, oldest first: a marker, or why not."""
    found: dict[str, Any] = {}
    for path in complete(directory):
        try:
            found[path.name] = json.loads((path / _MARKER).read_text())
        except (OSError, ValueError) as error:
            found[path.name] = str(error)
    return found


def _seen_by_some(path: Path, who: str) -> str:
    return f"{path}: {who}; put the run on a file system that shows all nodes the same, and resume it"


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def _shapes(model: PreTrainedModel) -> dict[str, list[int]]:
    return {name: list(parameter.shape) for name, parameter in model.named_parameters()}
