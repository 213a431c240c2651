"""Out of memory is one line that says what to lower; a GPU is waited for. Only the GPU's own numbers are made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.memory import gpu_memory, memory_for, wait_for_memory
from trainer.metrics import Clock
from trainer.ranks import Ranks
from trainer.train import evaluate_model, train, wait_for_engine_room


def test_a_full_gpu_names_the_phase_the_rank_and_what_to_lower() -> None:
    line = r"GPU memory in update on rank 3 \(CUDA out.*lower optimizer.micro_batch_tokens"
    with pytest.raises(UserError, match=line), Clock(3).phase("update"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has 79 GiB")


def test_a_full_host_is_said_too() -> None:
    line = r"host memory in rollout on rank 0 .*lower rollout.max_response_length"
    with pytest.raises(UserError, match=line), memory_for("rollout", rank=0):
        torch.empty(10**15)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), memory_for("update", rank=0):
        raise RuntimeError("shapes")


def full(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_an_engine_and_an_evaluation_that_do_not_fit_are_said_too(
    small_config: TrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.train.evaluate_due", full)
    with pytest.raises(UserError, match="GPU memory in evaluation on rank 0"):
        evaluate_model(small_config)
    monkeypatch.setattr("trainer.train.start_sampler", full)
    for run in (lambda: evaluate_model(small_config), lambda: next(train(small_config, tmp_path / "run"))):
        with pytest.raises(UserError, match=r"GPU memory in sync .*lower rollout\.vllm\.gpu_memory_utilization"):
            run()
    monkeypatch.setattr("trainer.train.load_policy", full)
    with pytest.raises(UserError, match=r"GPU memory in model .*model\.cpu_offload"):
        evaluate_model(small_config)


def test_a_gpu_is_waited_for_until_its_memory_is_free() -> None:
    reads = iter([(10, 100), (30, 100), (60, 100)])
    wait_for_memory(0.5, lambda: next(reads), seconds=30)
    assert next(reads, None) is None


def test_a_gpu_that_stays_full_is_an_error_with_numbers() -> None:
    with pytest.raises(UserError, match=r"needs 40\.0 GiB, but 10\.0 of 80\.0 GiB were free"):
        wait_for_memory(0.5, lambda: (10 * 2**30, 80 * 2**30), seconds=0.0)


@pytest.fixture
def of_80_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says of a GPU with 80 GiB, of which the trial before still has 60 at first."""
    used = iter([60 * 2**30, 60 * 2**30, 10 * 2**30])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(torch.cuda, "device_memory_used", lambda _: next(used))


def test_the_memory_of_a_gpu_is_that_of_nvml(of_80_gib: None, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 3)
    assert gpu_memory(gpu) == (20 * 2**30, 80 * 2**30)

    def unknown(_: torch.device) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "device_memory_used", unknown)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (device.index, 80))
    assert gpu_memory(gpu) == (3, 80)


def test_a_run_waits_for_the_trial_before_it_only_where_an_engine_needs_room(
    of_80_gib: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr("trainer.train.gpu_memory", lambda device: read.append(device) or gpu_memory(device))
    on_gpu = Ranks(0, 1, torch.device("cuda", 0))
    for backend, ranks in (("transformers", on_gpu), ("vllm", Ranks(0, 1, torch.device("cpu")))):
        wait_for_engine_room(TrainerConfig.model_validate({"rollout": {"backend": backend}}), ranks)
        assert not read
    wait_for_engine_room(TrainerConfig.model_validate({"rollout": {"backend": "vllm"}}), on_gpu)
    assert read == [on_gpu.device] * 3
