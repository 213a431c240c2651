"""A checkpoint is whole or not there: torn ones are passed over, old ones go, and what is loaded is what was saved."""

from __future__ import annotations

import errno
import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.checkpoint import Position, complete, load_newest, save
from trainer.config import ModelConfig, TrainerConfig
from trainer.errors import UserError
from trainer.export import export_policy, main
from trainer.policy import Policy, load_policy
from trainer.ranks import ALONE, Ranks


@pytest.fixture
def policy(random_model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(random_model)))


def train_a_step(policy: Policy, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """Weights and moments become those of `seed`."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    optimizer.zero_grad()


def state(policy: Policy, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    moments = [value for each in optimizer.state.values() for value in each.values()]
    return [value.detach().clone() for value in (*policy.model.parameters(), *moments)]


@pytest.fixture
def three(policy: Policy, tmp_path: Path) -> list[list[torch.Tensor]]:
    """Checkpoints of the steps 1, 2 and 3 in `tmp_path`; returns what the policy was at each."""
    optimizer, states = torch.optim.AdamW(policy.model.parameters()), []
    for step in (1, 2, 3):
        train_a_step(policy, optimizer, step)
        states.append(state(policy, optimizer))
        save(tmp_path, policy, optimizer, Position(step, 10 * step, 100 * step, 0.5 * step), ALONE, keep=3)
    return states


def reloaded(directory: Path, model: Path) -> tuple[Position | None, list[torch.Tensor]]:
    fresh = load_policy(ModelConfig(path=str(model)))
    optimizer = torch.optim.AdamW(fresh.model.parameters())
    return load_newest(directory, fresh, optimizer, ALONE), state(fresh, optimizer)


def expect_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert len(ours) == len(theirs) > 20
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_newest_is_loaded_to_the_bit(three: list, random_model: Path, tmp_path: Path) -> None:
    position, loaded = reloaded(tmp_path, random_model)
    assert position == Position(3, 30, 300, 1.5)
    expect_same(loaded, three[2])


def test_a_checkpoint_before_the_first_update_changes_nothing_of_it(random_model: Path, tmp_path: Path) -> None:
    """Neither where it is written nor where it is loaded: torch counts the making of AdamW's state as a step."""

    def updated(*uses: Callable) -> list[torch.Tensor]:
        policy = load_policy(ModelConfig(path=str(random_model)))
        optimizer = torch.optim.AdamW(policy.model.parameters())
        for use in uses:
            use(policy, optimizer)
        train_a_step(policy, optimizer, 1)
        return state(policy, optimizer)

    def write(*parts: Any) -> None:
        save(tmp_path, *parts, Position(1, 0, 0, 0.0), ALONE, keep=1)

    expected = updated()
    expect_same(updated(write), expected)
    expect_same(updated(write, write), expected)
    expect_same(updated(lambda *parts: load_newest(tmp_path, *parts, ALONE)), expected)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "tear",
    [
        lambda path: cut(next(path.glob("*.distcp"))),
        lambda path: next(path.glob("*.distcp")).unlink(),
        lambda path: cut(path / ".metadata"),
        lambda path: (path / ".metadata").unlink(),
        lambda path: (path / ".metadata").write_bytes(b"junk"),
        lambda path: cut(path / "run.json"),
        lambda path: (path / "run.json").unlink(),
    ],
    ids=["data cut", "data gone", "index cut", "index gone", "index junk", "marker cut", "marker gone"],
)
def test_a_torn_newest_is_passed_over(
    tear: Callable[[Path], None], three: list, policy: Policy, random_model: Path, tmp_path: Path
) -> None:
    """And is written over when the run comes to its step again."""
    tear(tmp_path / "step-000003")
    position, loaded = reloaded(tmp_path, random_model)
    assert position.step == 2
    expect_same(loaded, three[1])
    optimizer = torch.optim.AdamW(policy.model.parameters())
    train_a_step(policy, optimizer, 4)
    save(tmp_path, policy, optimizer, Position(3, 30, 300, 9.0), ALONE, keep=3)
    position, loaded = reloaded(tmp_path, random_model)
    assert position == Position(3, 30, 300, 9.0)
    expect_same(loaded, state(policy, optimizer))


def test_checkpoints_of_which_none_can_be_read_are_an_error(three: list, random_model: Path, tmp_path: Path) -> None:
    """To start over silently would throw away what there is."""
    for path in complete(tmp_path):
        cut(path / ".metadata")
    with pytest.raises(UserError, match="no checkpoint can be read") as caught:
        reloaded(tmp_path, random_model)
    assert "\n" not in str(caught.value)


def test_a_rank_lost_while_loading_is_not_a_damaged_checkpoint(
    three: list, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise RuntimeError("[/gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:5000")

    monkeypatch.setattr("trainer.checkpoint.dcp.load", lost)
    monkeypatch.setattr(Ranks, "gather_json", lambda self, own, total: own * total)  # both see the same
    optimizer = torch.optim.AdamW(policy.model.parameters())
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        load_newest(tmp_path, policy, optimizer, Ranks(0, 2, torch.device("cpu")))


@pytest.mark.parametrize(("wide", "number"), [(1, errno.EFBIG), (100_000, errno.ENOSPC)])
def test_what_the_disk_does_not_take_is_an_error_of_the_disk_and_what_was_written_goes(
    three: list, policy: Policy, random_model: Path, tmp_path: Path, wide: int, number: int
) -> None:
    """A limit on the size of a file fails the writing as a full disk does. Within a large tensor torch tells a position
    and no more."""
    policy.model.register_parameter("wide", torch.nn.Parameter(torch.zeros(wide)))
    optimizer, before = torch.optim.AdamW(policy.model.parameters()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError) as full:
            save(tmp_path, policy, optimizer, Position(4, 40, 400, 2.0), ALONE, keep=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert full.value.errno == number
    assert [path.name for path in sorted(tmp_path.glob("*step*"))] == ["step-000001", "step-000002", "step-000003"]
    expect_same(reloaded(tmp_path, random_model)[1], three[2])


def test_without_a_checkpoint_there_is_no_position(random_model: Path, tmp_path: Path) -> None:
    assert reloaded(tmp_path / "nothing", random_model)[0] is None


def test_another_architecture_is_refused(three: list, random_model: Path, tmp_path: Path) -> None:
    for path in complete(tmp_path):
        marker = json.loads((path / "run.json").read_text())
        marker["shapes"]["model.norm.weight"] = [64]
        (path / "run.json").write_text(json.dumps(marker))
    with pytest.raises(UserError, match=r"step-000003: is a checkpoint of another architecture than model\.path"):
        reloaded(tmp_path, random_model)


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_are_kept_and_leftovers_go(keep: int, policy: Policy, tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW(policy.model.parameters())
    (tmp_path / ".step-000001.partial").mkdir()  # of a process killed while it wrote
    (tmp_path / "step-000000").mkdir()  # of one killed while it removed
    for step in (1, 2, 3):
        save(tmp_path, policy, optimizer, Position(step, 0, 0, 0.0), ALONE, keep=keep)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-000001", "step-000002", "step-000003"][-keep:]


def test_a_checkpoint_that_is_half_removed_is_none(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files go in any order: the marker has to go first, or what is left passes for whole."""
    optimizer = torch.optim.AdamW(policy.model.parameters())
    save(tmp_path, policy, optimizer, Position(1, 0, 0, 0.0), ALONE, keep=1)

    def killed(path: Path) -> None:
        (path / ".metadata").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: killed(path) if path.name == "step-000001" else None)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, policy, optimizer, Position(2, 0, 0, 0.0), ALONE, keep=1)
    assert [path.name for path in complete(tmp_path)] == ["step-000002"]


def test_the_exported_policy_is_what_transformers_loads(
    three: list, random_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "step-000003").rename(tmp_path / "checkpoints" / "step-000003")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"path": str(random_model)}}))
    words = [str(tmp_path / "config.yaml"), "--run", str(tmp_path), "--out", str(tmp_path / "hf")]
    assert main(words) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", trust_remote_code=False)
    expect = three[2][: len(list(model.parameters()))]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expect, strict=True))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf", trust_remote_code=False)
    assert tokenizer("1+2=")["input_ids"] == AutoTokenizer.from_pretrained(random_model)("1+2=")["input_ids"]
    assert {path.suffix for path in (tmp_path / "hf").iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert main(words) == 2
    assert capsys.readouterr().err == f"--out {tmp_path / 'hf'}: exists; choose another directory\n"
    config = TrainerConfig.model_validate({"model": {"path": str(random_model), "dtype": "bfloat16"}})
    export_policy(config, tmp_path, tmp_path / "half")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    with pytest.raises(UserError, match="has no checkpoint"):
        export_policy(config, tmp_path / "hf", tmp_path / "other")
