"""Two gloo ranks that do not see the same checkpoints, as on a network file system: rank 0 chooses, or both refuse."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import forked
from trainer.checkpoint import Position, load_newest, save
from trainer.config import ModelConfig
from trainer.errors import UserError
from trainer.policy import load_policy
from trainer.ranks import start_ranks

pytestmark = pytest.mark.slow

CODE = "from tests.trainer.test_checkpoint_ranks import main; main(*arguments)"
TWO, THREE = "step-000002", "step-000003"


def tear(view: Path) -> None:
    (view / THREE / "run.json").write_text("{")


def another(view: Path) -> None:
    marker = json.loads((view / THREE / "run.json").read_text())
    (view / THREE / "run.json").write_text(json.dumps(marker | {"tokens": 1}))


def without(*names: str) -> Callable[[Path], None]:
    return lambda view: [shutil.rmtree(view / name) for name in names]


def same(view: Path) -> None:
    pass


def first_update(model: str, folder: str) -> None:
    """One rank: the first update after a checkpoint, written or loaded, is to the bit what it is without one."""
    torch.set_num_threads(1)
    with start_ranks(timeout=100) as ranks:

        def updated(use: Callable) -> list[torch.Tensor]:
            policy = load_policy(ModelConfig(path=model), ranks)
            optimizer = torch.optim.AdamW(policy.model.parameters())
            use(policy, optimizer)
            for parameter in policy.model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            return [each.to_local().detach() for each in policy.model.parameters()]

        expected = updated(lambda *_: None)
        written = updated(lambda *parts: save(Path(folder), *parts, Position(1, 0, 0, 0.0), ranks, keep=1))
        read = updated(lambda *parts: load_newest(Path(folder), *parts, ranks))
        for found in (written, read):
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


CASES = {
    "same": (same, same, "3"),
    "rank 1 lacks the newest": (same, without(THREE), f"{THREE}: rank 0 sees it and rank 1 does not"),
    "rank 1 lacks all": (same, without(TWO, THREE), f"{THREE}: rank 0 sees it and rank 1 does not"),
    "rank 1 lacks one that is not loaded": (same, without(TWO), "3"),
    "rank 1 has another newest": (same, another, f"{THREE}: rank 0 sees it and rank 1 does not, or another one"),
    "rank 0 lacks the newest": (without(THREE), same, f"{THREE}: rank 1 sees it and rank 0 does not"),
    "rank 0 lacks all": (without(TWO, THREE), same, f"{THREE}: rank 1 sees it and rank 0 does not"),
    "rank 0 cannot read the newest": (tear, same, "2"),
    "rank 1 cannot read the newest": (same, tear, f"{THREE}: rank 0 sees it and rank 1 does not"),
    "no one has any": (without(TWO, THREE), without(TWO, THREE), "None"),
}


def main(model: str, folder: str) -> None:
    """One rank: both save steps 2 and 3, then each loads from a view of its own, and tells what came out."""
    torch.set_num_threads(1)
    root, rank = Path(folder), int(os.environ["RANK"])
    told: dict[str, tuple[str, float]] = {}
    with start_ranks(timeout=100) as ranks:
        policy = load_policy(ModelConfig(path=model), ranks)
        optimizer = torch.optim.AdamW(policy.model.parameters())
        for step in (2, 3):
            for parameter in policy.model.parameters():
                torch.nn.init.constant_(parameter, step)
                parameter.grad = torch.zeros_like(parameter)
            save(root / "saved", policy, optimizer, Position(step, 0, 0, 0.0), ranks, keep=2)
        for name, (*change, _) in CASES.items():
            view = Path(shutil.copytree(root / "saved", root / f"{name} {rank}"))
            change[rank](view)
            ranks.barrier()
            try:
                position = load_newest(view, policy, optimizer, ranks)
                outcome = str(position and position.step)
            except UserError as error:
                outcome = str(error)
            told[name] = outcome, max(each.to_local().max().item() for each in policy.model.parameters())
    (root / f"told {rank}").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def told(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each rank tells: for every case the step or the refusal, and a weight, which is the step of its origin."""
    folder = tmp_path_factory.mktemp("views")
    output = folder / "log"
    forked.finish(*forked.start_ranks(CODE, random_model, folder, output=output), output=output)
    return [json.loads((folder / f"told {rank}").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_load_what_rank_0_chooses_or_none_goes_on(name: str, told: list[dict]) -> None:
    expected = CASES[name][-1]
    for rank in (0, 1):
        outcome, weight = told[rank][name]
        assert expected == outcome or (not expected.isdecimal() and f"/{expected}" in outcome), (rank, outcome)
        assert "\n" not in outcome
        assert not expected.isdecimal() or weight == float(expected)


def test_a_checkpoint_before_the_first_update_changes_nothing_of_it(random_model: Path, tmp_path: Path) -> None:
    output, code = tmp_path / "log", CODE.replace("main", "first_update")
    forked.finish(*forked.start_ranks(code, random_model, tmp_path / "saved", output=output), output=output)
