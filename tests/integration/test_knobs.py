"""No dead knob: every field of TrainerConfig changes what a run does.

A field has a value in one of the two lists below, or a test of its own that is named `test_knob_` and then the field
with `__` for its dots; tests/trainer/test_config.py fails for one that has neither.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.base_model import ensure_base_model
from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.policy import Policy, load_policy, score
from trainer.ranks import ALONE
from trainer.records import Look, read_lines
from trainer.rollout import TransformersSampler
from trainer.train import start_sampler, train
from trainer.update import score_old
from trainer.vllm_limits import engine_arguments

pytestmark = pytest.mark.slow

# Two rough steps on small batches, in which every mechanism of the loss has something to do.
BASE = {
    "steps": 2,
    "data": {"max_prompt_length": 64},
    "rollout": {"prompts_per_step": 12, "group_size": 4, "max_response_length": 40},
    "reward": {"overlong_buffer": 20, "overlong_penalty": 0.5},
    "fipo": {
        "half_life": 32, "epsilon_f_low": 0.5, "epsilon_f_high": 2.0, "safety_threshold": 1.2, "dual_clip": 1.3,
        "kl_coef": 0.01,
    },
    "optimizer": {"learning_rate": 4e-4, "prompts_per_minibatch": 4},
    "evaluation": {
        "completions": 0,
        "sets": [{"name": "a", "path": "embedded:select", "samples": 2, "every": 1}],
    },
    "checkpoint": {"every": 1, "keep": 2},
}  # fmt: skip
CHANGES_THE_NUMBERS = {
    "steps": 3, "seed": 1, "model.dtype": "bfloat16", "data.train": "embedded:report",
    "data.max_prompt_length": 9, "rollout.prompts_per_step": 20, "rollout.group_size": 3,
    "rollout.max_response_length": 30, "rollout.temperature": 0.8, "rollout.max_sampled_batches": 3,
    "reward.overlong_buffer": 10, "reward.overlong_penalty": 1.5, "fipo.half_life": 2, "fipo.epsilon_f_low": 0.1,
    "fipo.epsilon_f_high": 0.01, "fipo.safety_threshold": 5.0, "rollout.importance_cap": 0.5, "fipo.filtering": False,
    "fipo.clip_low": 0.01,
    "fipo.clip_high": 0.01, "fipo.dual_clip": 10.0, "fipo.aggregation": "seq-mean-token-sum",
    "optimizer.learning_rate": 1e-3, "optimizer.schedule": "cosine", "optimizer.warmup_steps": 2,
    "optimizer.weight_decay": 0.5, "optimizer.grad_clip": 0.01, "optimizer.prompts_per_minibatch": 2,
    "evaluation.sets.path": "embedded:report", "evaluation.sets.samples": 3,
    "evaluation.sets.every": None, "evaluation.temperature": 0.5, "evaluation.top_p": 0.3, "evaluation.seed": 7,
}  # fmt: skip

CHANGES_THE_ENGINE = {
    "rollout.vllm.tensor_parallel_size": 2, "rollout.vllm.gpu_memory_utilization": 0.3,
    "rollout.vllm.max_model_len": 128, "rollout.vllm.max_num_seqs": 8, "rollout.vllm.max_num_batched_tokens": 512,
    "rollout.vllm.enforce_eager": True, "rollout.vllm.dtype": "bfloat16", "rollout.vllm.kv_cache_dtype": "fp8",
    "rollout.vllm.prefix_caching": False, "seed": 1, "rank_timeout": 60.0,
}  # fmt: skip


def config(key: str | None = None, value: object = None, *, without: str | None = None) -> TrainerConfig:
    data = TrainerConfig.model_validate(BASE).model_dump()
    for name in (key, without):
        if name:
            *parents, last = name.split(".")
            part = data
            for parent in parents:
                part = part[parent]
            part = part[0] if isinstance(part, tuple) else part
            part[last] = value if name == key else None
    return TrainerConfig.model_validate(data)


def numbers(directory: Path) -> list[list]:
    """The values of each line. Not their names, which a knob could change alone, nor the rate, which it could tell."""
    lines = read_lines(directory / "metrics.jsonl")
    left_out = ("seconds", "tokens_per", "learning_rate")
    return [[value for key, value in line.items() if not key.startswith(left_out)] for line in lines]


def run(config: TrainerConfig, directory: Path) -> list[list]:
    list(train(config, directory))
    return numbers(directory)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[list]:
    return run(config(), tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("key", CHANGES_THE_ENGINE)
def test_it_changes_what_a_vllm_engine_on_a_gpu_is_given(key: str) -> None:
    """What the engine makes of it is in tests/trainer/test_vllm_rollout.py, as far as a CPU can show it."""
    changed = engine_arguments(config(key, CHANGES_THE_ENGINE[key]), cuda=True, ranks=2)
    assert changed != engine_arguments(config(), cuda=True, ranks=2)


def test_no_engine_asks_for_gpus_that_its_process_does_not_see() -> None:
    """vLLM's own all-reduce would, and Ray shows each process one: an IndexError at the start of every engine."""
    shared = engine_arguments(config("rollout.vllm.tensor_parallel_size", 2), cuda=True, ranks=2)
    assert shared["disable_custom_all_reduce"] is True


def test_knob_rollout__backend() -> None:
    """vllm is taken: it refuses what it could not follow, which the other backend does not ask for."""
    data = config("rollout.backend", "vllm").model_dump()
    data["rollout"]["vllm"]["tensor_parallel_size"] = 3
    policy = load_policy(config().model)
    with pytest.raises(UserError, match=r"rollout\.(backend = vllm|vllm\.tensor_parallel_size = 3)"):
        start_sampler(TrainerConfig.model_validate(data), policy, ALONE)
    data["rollout"]["backend"] = "transformers"
    assert isinstance(start_sampler(TrainerConfig.model_validate(data), policy, ALONE), TransformersSampler)


@pytest.mark.parametrize("key", CHANGES_THE_NUMBERS)
def test_it_changes_the_numbers(key: str, base: list[list], tmp_path: Path) -> None:
    assert run(config(key, CHANGES_THE_NUMBERS[key]), tmp_path) != base


def test_the_same_config_does_not(base: list[list], tmp_path: Path) -> None:
    assert run(config(), tmp_path) == base


def test_knob_evaluation__sets__name(tmp_path: Path) -> None:
    run(config("evaluation.sets.name", "b"), tmp_path)
    (first, *_) = read_lines(tmp_path / "metrics.jsonl")
    assert "b/avg@2" in first and "a/avg@2" not in first


def test_knob_fipo__gamma(base: list[list], tmp_path: Path) -> None:
    assert run(config("fipo.gamma", 0.1, without="fipo.half_life"), tmp_path) != base


def test_knob_fipo__kl_coef(base: list[list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the base model, however far the policy has come."""
    references = []

    def seen(policy: Policy, reference: Policy, *rest: object, **named: object) -> object:
        references.append({name: each.clone() for name, each in reference.model.state_dict().items()})
        return score_old(policy, reference, *rest, **named)

    monkeypatch.setattr("trainer.train.score_old", seen)
    changed = config("fipo.kl_coef", 1.0)
    assert run(changed, tmp_path) != base
    loaded = load_policy(changed.model).model.state_dict()
    assert len(references) == changed.steps == 2
    assert all(torch.equal(each[name], weight) for each in references for name, weight in loaded.items())


def test_knob_model__path(base: list[list], tmp_path: Path, random_model: Path) -> None:
    assert run(config("model.path", str(random_model)), tmp_path) != base


def test_knob_model__activation_checkpointing() -> None:
    """That it keeps less is in tests/trainer/test_invariance.py."""
    assert load_policy(config("model.activation_checkpointing", True).model).model.is_gradient_checkpointing
    assert not load_policy(config().model).model.is_gradient_checkpointing


def test_knob_model__cpu_offload(tmp_path: Path) -> None:
    """With several ranks: tests/trainer/test_two_ranks.py."""
    with pytest.raises(UserError, match="several ranks"):
        run(config("model.cpu_offload", True), tmp_path)


def test_knob_data__chat(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chat template"):
        run(config("data.chat", True), tmp_path)


def test_knob_data__template(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text(
        "".join(f'{{"problem": "{a}+{b}+11=", "answer": "{a + b + 11}"}}\n' for a in (21, 32) for b in (43, 54))
    )
    plain = run(config("data.train", str(path)), tmp_path / "plain")
    data = config("data.train", str(path)).model_dump()
    data["data"]["template"] = "boxed"
    assert run(TrainerConfig.model_validate(data), tmp_path / "boxed") != plain


def test_knob_rollout__top_p() -> None:
    with pytest.raises(ValueError, match=r"only 1\.0 is allowed"):
        config("rollout.top_p", 0.9)


def test_knob_optimizer__micro_batch_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More passes through the model, with fewer responses each."""
    passes: list[int] = []
    monkeypatch.setattr(
        "trainer.update.score", lambda *each, **more: passes.append(len(each[1])) or score(*each, **more)
    )
    for tokens in (4096, 100):
        run(config("optimizer.micro_batch_tokens", tokens), tmp_path / str(tokens))
        passes.append(0)
    whole = passes.index(0)
    assert len(passes) - whole > 2 * whole and max(passes[whole:]) < min(passes[:whole])


def test_knob_evaluation__sets__first_look(tmp_path: Path) -> None:
    told = {
        first: list(train(config("evaluation.sets.first_look", first), tmp_path / str(first), races=True))
        for first in (None, 1)
    }
    assert [each.score.samples for each in told[1] if isinstance(each, Look)] == [1]
    assert not any(isinstance(each, Look) for each in told[None])


def test_knob_evaluation__completions(tmp_path: Path) -> None:
    run(config("evaluation.completions", 3), tmp_path)
    assert len(list((tmp_path / "completions").glob("*.parquet"))) == 2


def test_knob_checkpoint__every(tmp_path: Path) -> None:
    run(config("checkpoint.every", None), tmp_path)
    assert [each.name for each in (tmp_path / "checkpoints").iterdir()] == ["step-000002"]
    data = config("checkpoint.every", 2).model_dump() | {"steps": 5}
    data["checkpoint"]["keep"] = 9
    run(TrainerConfig.model_validate(data), tmp_path / "five")
    kept = {each.name for each in (tmp_path / "five" / "checkpoints").iterdir()}
    assert kept == {"step-000002", "step-000004", "step-000005"}  # the last step's always


def test_knob_checkpoint__keep(tmp_path: Path) -> None:
    run(config(), tmp_path / "two")
    run(config("checkpoint.keep", 1), tmp_path / "one")
    assert len(list((tmp_path / "two" / "checkpoints").iterdir())) == 2
    assert len(list((tmp_path / "one" / "checkpoints").iterdir())) == 1


def test_knob_threads(tmp_path: Path) -> None:
    try:
        next(train(config("threads", 2), tmp_path))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_knob_rank_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second rank that never comes ends the run within the timeout."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match=r"(?i)timed out|timeout"):
        next(train(config("rank_timeout", 2.0), tmp_path))


@pytest.fixture(scope="module", autouse=True)
def base_model() -> Path:
    return ensure_base_model()
