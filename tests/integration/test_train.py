"""Whole runs on the embedded base model: they learn, repeat, resume after SIGKILL, and ranks do not matter."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars
import pytest
import torch
import yaml

from dashboards.metrics import GROUPS, QUANTITIES
from tests import forked
from trainer.__main__ import main
from trainer.base_model import ensure_base_model
from trainer.checkpoint import complete
from trainer.config import TrainerConfig
from trainer.errors import TrainingDiverged, UserError
from trainer.records import last_line, read_evaluations, read_lines
from trainer.train import train

pytestmark = pytest.mark.slow
TIMED = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module", autouse=True)
def base_model() -> Path:
    return ensure_base_model()


def short(**values: object) -> dict:
    """Six small steps with an evaluation and a checkpoint at every other one."""
    sets = [
        {"name": "select", "path": "embedded:select", "samples": 2, "every": 2},
        {"name": "report", "path": "embedded:report", "samples": 2, "every": None},
    ]
    return {
        "steps": 6,
        "rollout": {"prompts_per_step": 8, "group_size": 4},
        "optimizer": {"prompts_per_minibatch": 4, "micro_batch_tokens": 500, "learning_rate": 5e-4},
        "evaluation": {"sets": sets},
        "checkpoint": {"every": 2},
    } | values


def numbers(directory: Path) -> list[dict]:
    """The metrics without what depends on the clock."""
    lines = read_lines(directory / "metrics.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith(TIMED)} for line in lines]


def written(tmp_path: Path, config: dict) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def run(tmp_path: Path, config: dict, out: Path, *options: str) -> None:
    log = tmp_path / f"{out.name}.log"
    forked.finish(forked.start(forked.TRAIN, written(tmp_path, config), "--out", out, *options, output=log), output=log)


def run_command(*command: str) -> None:
    result = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    run_command("trainer", str(written(directory, short())), "--out", str(directory / "run"))
    return directory / "run"


def test_accuracy_and_length_grow_together(tmp_path: Path) -> None:
    evaluations = list(train(TrainerConfig(), tmp_path))
    first, last = evaluations[0].scores[0], evaluations[-1].scores[0]
    assert [each.step for each in evaluations] == list(range(0, 25, 3))
    assert last.accuracy > first.accuracy + 0.3
    assert last.mean_length > first.mean_length * 1.2
    assert {score.name for score in evaluations[-1].scores} == {"sums_select", "sums_report"}
    assert evaluations == read_evaluations(tmp_path)


def test_the_same_config_gives_the_same_numbers(uninterrupted: Path, tmp_path: Path) -> None:
    run(tmp_path, short(), tmp_path / "again")
    assert numbers(tmp_path / "again") == numbers(uninterrupted)


def test_another_seed_gives_other_numbers(uninterrupted: Path, tmp_path: Path) -> None:
    run(tmp_path, short(seed=1, steps=2), tmp_path / "other")
    assert numbers(tmp_path / "other")[1] != numbers(uninterrupted)[1]
    assert numbers(tmp_path / "other")[0] == numbers(uninterrupted)[0]  # trials are evaluated on the same draws


def test_tokens_are_all_that_were_sampled_in_training(uninterrupted: Path) -> None:
    """Those of groups that taught nothing and were drawn again too: they took as long."""
    lines = read_lines(uninterrupted / "metrics.jsonl")
    each = [line["sampled_batches"] * 8 * 4 * line["rollout/length_mean"] for line in lines[1:]]
    assert [line["tokens"] for line in lines] == pytest.approx([0, *itertools.accumulate(each)])
    assert any(line["groups_kept"] < 8 for line in lines[1:])


def test_the_first_minibatch_has_ratio_one_in_every_step(uninterrupted: Path) -> None:
    steps = [line for line in numbers(uninterrupted) if "policy_kl" in line]
    assert len(steps) == 6
    assert all(line["first_minibatch_log_ratio_max"] == 0.0 for line in steps)
    assert all(line["rollout_gap/mean"] < 1e-5 for line in steps)


def test_everything_the_dashboard_plots_is_written(uninterrupted: Path) -> None:
    """But for the accuracies, which the dashboard takes from evaluations."""
    written = {name for line in numbers(uninterrupted) for name in line}
    plotted = {quantity.metric for quantity in QUANTITIES if quantity not in GROUPS["Accuracy"]}
    assert plotted <= written


def kill_and_resume(uninterrupted: Path, folder: Path, seconds: float) -> int:
    """SIGKILL after `seconds`, resume to the end; returns the step that the resumed run started from."""
    folder.mkdir()
    config, out = written(folder, short()), folder / "run"
    process = forked.start(forked.TRAIN, config, "--out", out, output=folder / "log")
    time.sleep(seconds)
    process.kill()
    process.join()
    saved, taken = complete(out / "checkpoints"), last_line(out / "metrics.jsonl").get("seconds/total", 0.0)
    run(folder, short(), out, "--resume")
    assert numbers(out) == numbers(uninterrupted)
    assert [e.scores for e in read_evaluations(out)] == [e.scores for e in read_evaluations(uninterrupted)]
    tables = sorted([*uninterrupted.glob("outcomes/*.parquet"), *uninterrupted.glob("completions/*.parquet")])
    assert len(tables) == 4 + 3
    for table in tables:
        assert polars.read_parquet(out / table.parent.name / table.name).equals(polars.read_parquet(table))
    start = int(saved[-1].name.split("-")[1]) if saved else 0
    again = [line for line in read_lines(out / "metrics.jsonl") if line["step"] > start or not saved]
    assert read_evaluations(out)[-1].seconds >= taken + sum(line["seconds/step"] for line in again)
    return start


def test_sigkill_at_random_moments_leaves_no_trace(uninterrupted: Path, tmp_path: Path) -> None:
    """Each moment is random within its share of the run's own length, so that they fall everywhere."""
    count, generator = int(os.environ.get("FIPO_TEST_KILLS", "20")), random.Random(0)
    with ThreadPoolExecutor(max_workers=2) as pool:  # two at a time, like the two runs by which the length is measured
        started = time.monotonic()
        list(pool.map(lambda name: run(tmp_path, short(), tmp_path / name), ("a", "b")))
        whole = time.monotonic() - started
        moments = [(number + generator.random()) / count * whole for number in range(count)]
        generator.shuffle(moments)
        folders = [tmp_path / f"killed-{moment:.3f}" for moment in moments]
        starts = set(pool.map(kill_and_resume, [uninterrupted] * count, folders, moments))
    assert len(starts) > 1  # otherwise the kills all hit the same place and show little


@pytest.fixture(scope="module")
def of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the same run under torchrun, with everything that saves memory."""
    directory = tmp_path_factory.mktemp("two")
    config = short(steps=2, model={"cpu_offload": True, "activation_checkpointing": True})
    words = ["--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(forked.free_port())]
    words += ["-m", "trainer", str(written(directory, config)), "--out", str(directory / "run")]
    run_command("torch.distributed.run", *words)
    return directory / "run"


def expect_close(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name in theirs:
        # Kernels round differently for other batch shapes; the sampled tokens are the same.
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5), name


def test_two_ranks_give_the_numbers_of_one(uninterrupted: Path, of_two_ranks: Path) -> None:
    expect_close(numbers(of_two_ranks)[1], numbers(uninterrupted)[1])


def test_a_run_of_two_ranks_goes_on_with_one_as_if_it_always_had(
    uninterrupted: Path, of_two_ranks: Path, tmp_path: Path
) -> None:
    shutil.copytree(of_two_ranks, tmp_path / "run")
    run(tmp_path, short(), tmp_path / "run", "--resume")
    resumed = numbers(tmp_path / "run")
    assert [line["step"] for line in resumed] == list(range(7))
    expect_close(resumed[3], numbers(uninterrupted)[3])


def test_a_rank_that_is_killed_ends_the_other(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "run"
    config = written(tmp_path, short(steps=5000, rank_timeout=60.0))
    first, second = forked.start_ranks(forked.TRAIN, config, "--out", out, output=log)
    while len(read_lines(out / "metrics.jsonl")) < 3:
        assert first.is_alive() and second.is_alive(), log.read_text()
        time.sleep(0.1)
    second.kill()
    first.join(120)
    assert first.exitcode == 1
    assert "rank 0 of 2: another rank died, or did not answer within rank_timeout = 60 s" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_out_of_memory_is_one_line_and_exit_code_2(
    small_config: TrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The allocation that fails is a real one, of the host; no machine has a petabyte."""
    monkeypatch.setattr("trainer.train.sample_batch", lambda *_, **__: torch.empty(2**50))
    config = written(tmp_path, small_config.model_dump(mode="json"))
    assert main([str(config), "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("out of host memory in rollout on rank 0 (") and "\n" not in line
    assert "lower rollout.max_response_length" in line


def test_a_checkpoint_of_another_architecture_is_refused(uninterrupted: Path, random_model: Path) -> None:
    config = TrainerConfig.model_validate(short(model={"path": str(random_model)}))
    with pytest.raises(UserError, match="another architecture"):
        next(train(config, uninterrupted, resume=True))


def test_a_directory_with_a_run_is_refused(uninterrupted: Path) -> None:
    with pytest.raises(UserError, match="already holds a run"):
        next(train(TrainerConfig.model_validate(short()), uninterrupted))


def test_a_learning_rate_that_destroys_the_policy_ends_the_run(tmp_path: Path) -> None:
    config = TrainerConfig.model_validate(short(optimizer={"prompts_per_minibatch": 4, "learning_rate": 1e30}))
    with pytest.raises(TrainingDiverged, match="not finite at step"):
        list(train(config, tmp_path / "run"))
