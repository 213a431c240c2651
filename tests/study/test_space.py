"""A distribution of the study file in Optuna's terms: what a sampler may draw, and on which scale."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution


@pytest.mark.parametrize(
    ("key", "written", "drawn"),
    [
        ("fipo.gamma", {"type": "uniform", "low": 0.5, "high": 1.0}, FloatDistribution(0.5, 1.0)),
        ("fipo.half_life", {"type": "log-uniform", "low": 4, "high": 64}, FloatDistribution(4.0, 64.0, log=True)),
        ("rollout.group_size", {"type": "int", "low": 4, "high": 16, "step": 4}, IntDistribution(4, 16, step=4)),
        ("fipo.filtering", {"type": "choice", "values": [True, False]}, CategoricalDistribution((True, False))),
        ("fipo.half_life", {"type": "grid", "values": [8, 32]}, CategoricalDistribution((8, 32))),
    ],
)
def test_what_is_written_is_what_is_drawn(make_spec, key, written, drawn):
    sampler = {"name": "grid" if written["type"] == "grid" else "random"}
    spec = make_spec(space={key: written}, sampler=sampler, trials=2)
    assert spec.space[key].optuna() == drawn
