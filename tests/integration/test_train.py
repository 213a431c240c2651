"""Whole runs on the embedded base model: they learn, repeat, resume after SIGKILL, and ranks do not matter."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dashboards.metrics import QUANTITIES
from trainer.base_model import ensure_base_model
from trainer.checkpoint import complete
from trainer.config import TrainerConfig
from trainer.errors import TrainingDiverged, UserError
from trainer.records import read_evaluations, read_lines
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


def command(tmp_path: Path, config: dict, out: Path, *, ranks: int = 1, resume: bool = False) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["torch.distributed.run", "--nproc-per-node", str(ranks), "--master-addr", "127.0.0.1"]
    launcher = [*torchrun, "--master-port", str(port), "-m"] if ranks > 1 else []
    return [sys.executable, "-m", *launcher, "trainer", str(path), "--out", str(out), *(["--resume"] if resume else [])]


def run(tmp_path: Path, config: dict, out: Path, **options: object) -> None:
    result = subprocess.run(command(tmp_path, config, out, **options), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    run(directory, short(), directory / "run")
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


def test_the_first_minibatch_has_ratio_one_in_every_step(uninterrupted: Path) -> None:
    steps = [line for line in numbers(uninterrupted) if "policy_kl" in line]
    assert len(steps) == 6
    assert all(line["first_minibatch_log_ratio_max"] == 0.0 for line in steps)
    assert all(line["rollout_gap/mean"] < 1e-5 for line in steps)


def test_everything_the_dashboard_plots_is_written(uninterrupted: Path) -> None:
    written = {name for line in numbers(uninterrupted) for name in line}
    assert {quantity.metric for quantity in QUANTITIES} <= written


def kill_and_resume(uninterrupted: Path, tmp_path: Path, seconds: float) -> int:
    """SIGKILL after `seconds`, resume to the end; returns the step that the resumed run started from."""
    out = tmp_path / f"killed-{seconds:.2f}"
    process = subprocess.Popen(command(tmp_path, short(), out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = complete(out / "checkpoints")
    run(tmp_path, short(), out, resume=True)
    assert numbers(out) == numbers(uninterrupted)
    assert [e.scores for e in read_evaluations(out)] == [e.scores for e in read_evaluations(uninterrupted)]
    return int(saved[-1].name.split("-")[1]) if saved else 0


def test_sigkill_at_random_moments_leaves_no_trace(uninterrupted: Path, tmp_path: Path) -> None:
    """Moments are spread over the run's own length, so that some fall between checkpoints."""
    started = time.monotonic()
    run(tmp_path, short(), tmp_path / "timed")
    whole = time.monotonic() - started
    generator = random.Random(0)
    count = int(os.environ.get("FIPO_TEST_KILLS", "20"))
    starts = {kill_and_resume(uninterrupted, tmp_path, generator.uniform(0.3, 1.0) * whole) for _ in range(count)}
    assert len(starts) > 1  # otherwise the kills all hit the same place and show little


def test_two_ranks_give_the_numbers_of_one(uninterrupted: Path, tmp_path: Path) -> None:
    run(tmp_path, short(steps=2), tmp_path / "two", ranks=2)
    one, two = numbers(uninterrupted)[1], numbers(tmp_path / "two")[1]
    assert one.keys() == two.keys()
    for name in one:
        # Kernels round differently for other batch shapes; the sampled tokens are the same.
        assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5), name


def test_a_run_of_two_ranks_resumes_on_one(uninterrupted: Path, tmp_path: Path) -> None:
    run(tmp_path, short(steps=2), tmp_path / "run", ranks=2)
    run(tmp_path, short(), tmp_path / "run", resume=True)
    resumed = numbers(tmp_path / "run")
    assert [line["step"] for line in resumed] == list(range(7))
    assert resumed[3]["policy_kl"] != 0


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
