"""What each rank of `test_two_ranks.py` runs: metrics and gradient of one batch, sharded in several ways.

Arguments: model directory, one whose embeddings are not tied, output file, and `ways` as JSON: settings of the model
and of the micro-batches.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.trainer.batches import Recorder, drifted, made_up_batch
from tests.trainer.test_invariance import one_minibatch
from trainer import pretrained
from trainer.config import EvaluationSet, ModelConfig, TrainerConfig
from trainer.errors import TrainingDiverged, UserError
from trainer.evaluate import evaluate_set, whole
from trainer.policy import Policy, load_policy
from trainer.problems import Problem
from trainer.ranks import ALONE, Ranks, start_ranks
from trainer.rollout import TransformersSampler
from trainer.sharding import shard
from trainer.update import score_old, update

SEED = 3


def gradient(
    policy: Policy, ranks: Ranks, *, micro_batch_tokens: int, dtype: str, spoilt: int | None = None
) -> tuple[dict[str, float], torch.Tensor]:
    """Metrics and whole gradient of the update, the policy having drifted since the rollout.

    Args:
        spoilt: a rank whose advantages are not numbers.
    """
    config = one_minibatch(micro_batch_tokens)
    free = config.fipo.model_copy(update={"epsilon_f_low": 1.0})  # at a bound the least weight is that of each rank
    config = config.model_copy(update={"model": ModelConfig.model_construct(dtype=dtype), "fipo": free})
    recorder = Recorder(policy)  # like any optimizer, before a forward pass leaves whole parameters in their place
    batch = made_up_batch(SEED)
    nine = dataclasses.replace(batch, groups=batch.groups[:3], advantages=batch.advantages[:3])
    old = score_old(policy, None, ranks, nine, config, step=1)
    parts = [
        dataclasses.replace(part, old_log_probs=drifted(part.old_log_probs, part.responses, SEED))
        for part in old.minibatches[0]
    ]
    if ranks.rank == spoilt:
        parts = [dataclasses.replace(part, advantages=part.advantages * float("nan")) for part in parts]
    metrics = update(policy, ranks, recorder, dataclasses.replace(old, minibatches=[parts]), config, step=1)
    return old.metrics | metrics, recorder.gradients[0]


def loaded(model: str, *, dtype: str, activation_checkpointing: bool = False) -> Policy:
    """The policy with float64 weights where the arithmetic is float64, which a config cannot ask for."""
    policy = load_policy(ModelConfig(path=model, activation_checkpointing=activation_checkpointing))
    if dtype == "float64":
        policy.model.double()
    return policy


def evaluated(policy: Policy, ranks: Ranks, *, races: bool) -> torch.Tensor:
    """The length of each of 5 responses to each of 7 problems; when it races, 2 and then 4 are drawn first."""
    sampler = TransformersSampler(
        policy.model, end_tokens=policy.end_tokens, pad_token=policy.pad_token, device=policy.device
    )
    problems = [Problem(f"{number}+1=", "0") for number in range(7)]
    each = EvaluationSet(name="select", path="", samples=5, first_look=2)
    looks = evaluate_set(sampler, policy, ranks, each, problems, config=TrainerConfig(), step=1, races=races)
    return torch.tensor(whole(looks).outcomes["length"].to_list())


def received(path: str, ranks: Ranks) -> bool:
    """Whether a sharded model, whose weights rank 0 alone may read, is the one at `path` on every rank, buffers too."""
    with pytest.MonkeyPatch.context() as patch:
        if ranks.rank > 0:
            patch.setattr(pretrained, "_whole", None)
        policy = load_policy(ModelConfig(path=path), ranks)
    whole = load_policy(ModelConfig(path=path)).model
    held = {name: each.full_tensor() for name, each in policy.model.named_parameters()}
    held |= dict(policy.model.named_buffers())
    expected = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    assert held.keys() == expected.keys() and not policy.model.training
    assert policy.model.generation_config.to_dict() == whole.generation_config.to_dict()
    equal = all(torch.equal(held[name], expected[name]) for name in held)
    return ranks.sum({"equal": float(equal)})["equal"] == ranks.size


class OneWeight(torch.nn.Module):
    """The gradient of its weight is what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False)])

    def scores(self, given: torch.Tensor) -> torch.Tensor:
        return self.layers[0](given)


def summed(ranks: Ranks, given: float) -> torch.Tensor:
    """The gradient over all ranks of a bfloat16 model, whose own of this rank is `given`."""
    model = OneWeight()
    shard(model, ModelConfig(dtype="bfloat16"), ranks.device)
    model.scores(torch.full((1, 1), given)).backward()
    return next(model.parameters()).grad.full_tensor()


def main(model: str, untied: str, out: str, ways: str) -> None:
    """Every way in turn; rank 0 writes what came out, named by its place in `ways`.

    At last an evaluation, what each rank has received, and faults of a single rank.
    """
    torch.set_num_threads(1)
    results: dict[str, torch.Tensor] = {}
    with start_ranks(timeout=200) as ranks:
        for number, way in enumerate(json.loads(ways)):
            policy = loaded(model, dtype=way["dtype"], activation_checkpointing=way["activation_checkpointing"])
            settings = {name: way[name] for name in ("dtype", "cpu_offload")}
            shard(policy.model, ModelConfig.model_construct(**settings), ranks.device)
            optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.01)
            metrics, whole = gradient(policy, ranks, micro_batch_tokens=way["micro_batch_tokens"], dtype=way["dtype"])
            weights = optimizer.param_groups[0]["params"]
            for weight in weights:
                weight.grad = torch.ones_like(weight)
            optimizer.step()
            held = [*weights, *(optimizer.state[weight]["exp_avg"] for weight in weights)]
            own = sum(each.to_local().numel() for each in held)
            all_of_it = 2 * sum(weight.numel() for weight in weights)
            assert ranks.sum({"own": own})["own"] == all_of_it, "a rank holds more than its share"
            told = {f"{name} {number}": torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()}
            results |= told | {f"gradient {number}": whole}
        results["lengths"] = evaluated(load_policy(ModelConfig(path=model), ranks), ranks, races=True)
        results["summed"] = summed(ranks, 256.0 if ranks.rank == 0 else 1.0)
        results["received"] = torch.tensor([received(path, ranks) for path in (model, untied)])
        with pytest.MonkeyPatch.context() as patch:
            if ranks.rank == 0:
                patch.setattr(pretrained, "_whole", lambda *_: (None, ["model.norm.weight"]))
            try:
                load_policy(ModelConfig(path=model), ranks)
            except UserError as error:
                print(error, flush=True)
        try:
            gradient(policy, ranks, micro_batch_tokens=60, dtype="float32", spoilt=1)
        except TrainingDiverged as error:
            print(error, flush=True)
    if ranks.rank == 0:
        save_file(results, Path(out))


def alone(model: Path, *, dtype: str) -> tuple[dict[str, float], torch.Tensor]:
    """The same of one process that is not sharded, in one micro-batch."""
    return gradient(loaded(str(model), dtype=dtype), ALONE, micro_batch_tokens=100_000, dtype=dtype)
