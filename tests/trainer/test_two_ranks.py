"""Two gloo ranks, FSDP2: the metrics and the gradient of one process, whatever is sharded, offloaded or recomputed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests import forked
from tests.trainer.two_ranks import alone, evaluated
from trainer.config import ModelConfig
from trainer.policy import load_policy
from trainer.ranks import ALONE

CODE = "from tests.trainer.two_ranks import main; main(*arguments)"
TOLERANCE = {"float64": 1e-6, "float32": 1e-4, "bfloat16": 0.05}  # bfloat16 has 8 bits
WAYS = [
    {"dtype": dtype, "cpu_offload": offload, "activation_checkpointing": recompute, "micro_batch_tokens": tokens}
    for dtype, offload, recompute, tokens in [  # at 1 token each of the 9 sequences is alone, and a rank idle at last
        ("float64", False, False, 60), ("float64", False, False, 1), ("float64", False, True, 100_000),
        ("float64", True, False, 100_000), ("float64", True, True, 60), ("float32", False, False, 60),
        ("float32", True, True, 60), ("bfloat16", True, True, 60),
    ]
]  # fmt: skip


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("two")
    out, log, untied = folder / "gradients.safetensors", folder / "log", folder / "untied"
    shutil.copytree(random_model, untied)
    config = AutoConfig.from_pretrained(random_model, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(untied)
    forked.finish(*forked.start_ranks(CODE, random_model, untied, out, json.dumps(WAYS), output=log), output=log)
    return load_file(out) | {"log": log.read_text()}


def test_rank_0_alone_reads_the_weights_and_all_have_them_with_tied_embeddings_and_without(measured: dict) -> None:
    assert measured["received"].tolist() == [True, True]


def test_gradients_of_a_bfloat16_model_are_summed_over_ranks_in_float32(measured: dict) -> None:
    """256 + 1 takes 9 bits, and bfloat16 has 8."""
    assert measured["summed"].item() == 257


def test_a_model_that_rank_0_cannot_read_is_refused_by_both(measured: dict) -> None:
    assert measured["log"].count("for 1 tensors, the first is model.norm.weight") == 2


def test_a_fault_of_one_rank_stops_both_and_names_it(measured: dict) -> None:
    assert measured["log"].count("not finite") == measured["log"].count("loss is not finite at step 1 on rank 1") == 2


def test_an_evaluation_that_races_on_two_ranks_draws_what_one_rank_draws_at_once(
    measured: dict, random_model: Path
) -> None:
    expected = evaluated(load_policy(ModelConfig(path=str(random_model))), ALONE, races=False)
    assert len(expected.unique()) > 5 and measured["lengths"].tolist() == expected.tolist()


@pytest.mark.parametrize("number", range(len(WAYS)), ids=["-".join(map(str, way.values())) for way in WAYS])
def test_two_ranks_have_the_metrics_and_gradient_of_one(number: int, measured: dict, random_model: Path) -> None:
    dtype = WAYS[number]["dtype"]
    metrics, gradient = alone(random_model, dtype=dtype)
    tolerance = TOLERANCE[dtype]
    for name in metrics if dtype != "bfloat16" else ["loss"]:  # 8 bits put some ratios on the other side of a clip
        assert measured[f"{name} {number}"].item() == pytest.approx(metrics[name], rel=tolerance, abs=tolerance / 10), (
            name
        )
    assert (measured[f"gradient {number}"] - gradient).norm() <= tolerance * gradient.norm()
