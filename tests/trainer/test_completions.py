"""What is kept for reading is what was trained on: few responses, and each token's credit in this very step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars
import pytest
import torch

from tests.trainer.batches import changed, sampled_batch
from trainer.completions import choose, completions
from trainer.config import TrainerConfig
from trainer.groups import minibatches
from trainer.losses import fipo_loss_sum
from trainer.policy import Policy, load_policy, score
from trainer.ranks import ALONE
from trainer.update import loss_settings, score_old, update

TEMPERATURE = 0.7


@pytest.fixture
def policy(small_config: TrainerConfig) -> Policy:
    return load_policy(small_config.model)


def test_tokens_carry_their_weights_and_ratios_of_the_step(
    policy: Policy, small_config: TrainerConfig, tmp_path: Path
) -> None:
    """Micro-batches of 40 tokens, so that not all go through the model at once; at the temperature of the rollout."""
    config = changed(small_config, "optimizer", micro_batch_tokens=40, learning_rate=0.05)
    config = changed(config, "rollout", temperature=TEMPERATURE)
    batch = sampled_batch(policy)
    batch = dataclasses.replace(batch, rewards=np.arange(32.0).reshape(8, 4).tolist())
    chosen = choose(policy, batch, config)
    before = _log_probs(policy, chosen.responses)
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.05)
    update(policy, ALONE, optimizer, score_old(policy, None, ALONE, batch, config, step=3), config, step=3)
    table = completions(chosen, policy, batch, config, step=3)
    table.write_parquet(tmp_path / "table.parquet")
    rows = polars.read_parquet(tmp_path / "table.parquet").to_dicts()
    assert len(rows) == config.evaluation.completions == 8
    assert [row["reward"] for row in rows] == [4 * group + one for group in range(4, 8) for one in range(2)]
    assert [row["advantage"] for row in rows] == [value for each in batch.advantages[4:] for value in each[:2]]
    after = _log_probs(policy, chosen.responses)
    for row, response, old, new in zip(rows, chosen.responses, before, after, strict=True):
        length = len(response.tokens)
        assert row["length"] == length == len(row["tokens"]) == len(row["log_ratio"]) == len(row["influence_weight"])
        ratio = new - old
        torch.testing.assert_close(torch.tensor(row["log_ratio"]), ratio, rtol=1e-4, atol=1e-5)
        ones = torch.ones(1, length)
        result = fipo_loss_sum(new[None], old[None], row["advantage"] * ones, ones, **loss_settings(config.fipo))
        torch.testing.assert_close(torch.tensor(row["influence_weight"]), result.weights[0], rtol=1e-4, atol=1e-4)
        assert row["response"] == policy.decode(response.tokens) and row["step"] == 3
    assert {row["problem"] for row in rows} == {"4", "5", "6", "7"}  # groups of which several can be compared
    assert any(abs(value) > 1e-4 for row in rows for value in row["log_ratio"])


def _log_probs(policy: Policy, responses: list) -> list[torch.Tensor]:
    rows = []
    for response in responses:
        with torch.no_grad():
            rows.append(score(policy, [response], temperature=TEMPERATURE, dtype=torch.float32)[0][0])
    return rows


@pytest.mark.parametrize("groups", range(1, 9))
@pytest.mark.parametrize("wanted", [1, 3, 5, 8, 1000])
def test_they_are_of_the_last_minibatch_and_no_more_than_asked_for(
    wanted: int, groups: int, policy: Policy, small_config: TrainerConfig
) -> None:
    """Also when few groups are left, which is so where most of them are all right or all wrong."""
    config = changed(small_config, "evaluation", completions=wanted)
    batch = sampled_batch(policy, groups)
    last = minibatches(batch, config)[-1]
    chosen = choose(policy, batch, config)
    assert set(chosen.groups) <= set(last)
    assert len(chosen.responses) == min(wanted, len(last) * len(batch.groups[0]))
    # Of a group two at least, which can be compared, so of fewer groups where few are asked for; the last are taken.
    shown = dict.fromkeys(chosen.groups)
    assert list(shown) == last[len(last) - len(shown) :]
    assert all(chosen.groups.count(each) >= min(2, wanted) for each in [*shown][:-1])
