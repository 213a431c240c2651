"""Loss and gradient depend on the responses only: not on packing, padding, order, micro-batches or recomputation.

Two ranks: test_two_ranks.py.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import assert_never, get_args
from unittest import mock

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.trainer.batches import Recorder, drifted, made_up_batch
from trainer import attention
from trainer.config import Aggregation, ModelConfig, TrainerConfig
from trainer.losses import fipo_loss_sum
from trainer.policy import Policy, load_policy
from trainer.ranks import ALONE
from trainer.rollout import Response
from trainer.update import loss_settings, score_old, update

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


@pytest.fixture(scope="module", params=TOLERANCE, ids=str)
def policies(request: pytest.FixtureRequest, random_model: Path) -> dict[bool, Policy]:
    """The policy without and with activation checkpointing."""
    loaded = {}
    for recompute in (False, True):
        policy = load_policy(ModelConfig(path=str(random_model), activation_checkpointing=recompute))
        policy.model.to(request.param)
        loaded[recompute] = policy
    return loaded


@pytest.fixture(scope="module")
def reference(policies: dict[bool, Policy]) -> Policy:
    """A base model that the policy has moved away from."""
    model = copy.deepcopy(policies[False].model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    return dataclasses.replace(policies[False], model=model)


def log_probs_of(policy: Policy, response: Response, temperature: float) -> torch.Tensor:
    """[L] of the tokens of one response, alone through transformers' own forward."""
    tokens = torch.tensor([[*response.prompt, *response.tokens.tolist()]])
    log_p = torch.log_softmax(policy.model(tokens).logits[0] / temperature, -1)
    first = len(response.prompt)
    return log_p[first - 1 : -1].gather(1, tokens[0, first:, None]).squeeze(1)


def by_hand(policy: Policy, reference: Policy, seed: int, config: TrainerConfig) -> tuple[float, torch.Tensor]:
    """The plain way: each sequence alone, one loss over all, the KL term sequence by sequence, one backward."""
    batch, temperature = made_up_batch(seed), config.rollout.temperature
    responses = [one for group in batch.groups for one in group]
    rows, width = [log_probs_of(policy, one, temperature) for one in responses], 30
    old = [drifted(row.detach()[None], [one], seed)[0] for row, one in zip(rows, responses, strict=True)]

    def pad(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.nn.functional.pad(part, (0, width - len(part))) for part in parts])

    mask = pad([torch.ones_like(row) for row in rows]).detach()
    advantages = torch.tensor(batch.advantages, dtype=mask.dtype).view(-1, 1).expand_as(mask)
    result = fipo_loss_sum(pad(rows), pad(old), advantages, mask, **loss_settings(config.fipo))
    total = result.total
    for row, response, kept in zip(rows, responses, result.kept, strict=True):
        if kept.any():
            log_r = log_probs_of(reference, response, temperature).detach() - row
            k3 = log_r.exp() - 1 - log_r
            match config.fipo.aggregation:
                case "token-mean" | "seq-mean-token-sum":
                    term = k3.sum()
                case "seq-mean-token-mean":
                    term = k3.mean()
                case other:
                    assert_never(other)
            total = total + config.fipo.kl_coef * term
    loss = total / result.count
    return loss.item(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(policy.model.parameters()))])


@pytest.mark.parametrize("aggregation", get_args(Aggregation))
@settings(deadline=None, max_examples=10, phases=[Phase.generate])  # to shrink what fails takes minutes
@given(
    seed=st.integers(0, 99),
    micro_batch_tokens=st.integers(1, 600),
    recompute=st.booleans(),
    short=st.sampled_from([0, 1000]),
    order=st.permutations(range(4)),
    backwards=st.booleans(),
)
def test_loss_and_gradient_are_those_of_single_sequences(
    policies: dict[bool, Policy], reference: Policy, aggregation: str, seed: int, micro_batch_tokens: int,
    recompute: bool, short: int, order: list[int], backwards: bool,
) -> None:  # fmt: skip
    """`short` is how sequences are packed: one by one, or padded side by side."""
    policy = policies[recompute]
    tolerance = TOLERANCE[policy.model.dtype]
    config = one_minibatch(micro_batch_tokens, aggregation=aggregation, kl_coef=0.3)
    batch = made_up_batch(seed)
    turn = slice(None, None, -1 if backwards else 1)
    shuffled = dataclasses.replace(
        batch,
        groups=[batch.groups[place][turn] for place in order],
        advantages=[batch.advantages[place][turn] for place in order],
    )
    with mock.patch.object(attention, "SHORT", short):
        old = score_old(policy, reference, ALONE, shuffled, config, step=1)
        parts = [
            dataclasses.replace(part, old_log_probs=drifted(part.old_log_probs, part.responses, seed))
            for part in old.minibatches[0]
        ]
        recorder = Recorder(policy)
        metrics = update(policy, ALONE, recorder, dataclasses.replace(old, minibatches=[parts]), config, step=1)
    loss, gradient = by_hand(policies[False], reference, seed, config)
    assert len(recorder.gradients) == 1
    assert metrics["loss"] == pytest.approx(loss, rel=tolerance, abs=tolerance / 100)
    assert (recorder.gradients[0] - gradient).norm() <= tolerance * gradient.norm()


def one_minibatch(micro_batch_tokens: int, **fipo: object) -> TrainerConfig:
    """Every mechanism of the loss at work, and all prompts in one optimizer step, which a real run may not have."""
    fipo = {"dual_clip": 1.5, "epsilon_f_low": 0.9, "epsilon_f_high": 3.0, "safety_threshold": 1.3} | fipo
    optimizer = {"micro_batch_tokens": micro_batch_tokens, "grad_clip": 1e9}
    config = TrainerConfig.model_validate({"fipo": fipo, "optimizer": optimizer, "rollout": {"temperature": 0.7}})
    whole = config.optimizer.model_copy(update={"prompts_per_minibatch": config.rollout.prompts_per_step})
    return config.model_copy(update={"optimizer": whole})


def test_activation_checkpointing_keeps_less_for_the_backward_pass(random_model: Path) -> None:
    """By the bytes that autograd keeps; a flag that only looks switched on would keep as many."""
    kept = {}
    for recompute in (False, True):
        policy = load_policy(ModelConfig(path=str(random_model), activation_checkpointing=recompute))
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            tokens = torch.arange(200) % 16
            arguments = attention.packing_arguments(policy.model, [200], policy.device)
            log_probs, _ = policy.model.scores(tokens, torch.arange(1, 200), arguments, temperature=1.0)
        log_probs.sum().backward()
        weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
        kept[recompute] = sum(size for pointer, size in sizes.items() if pointer not in weights)
    assert kept[True] < kept[False] / 3
