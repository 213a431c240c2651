"""What `fipo validate` says a study will do."""

from __future__ import annotations

import pytest

from study.plan import plan

CONTROLS = [{"label": name, "values": {"fipo.half_life": value}} for name, value in (("A", 8), ("B", 16))]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        (
            {"replicas": {"seeds": 3, "top": 3}, "enqueue": CONTROLS},
            ["then up to 15 confirmations, 3 seeds of the best 3 and 2 controls"],
        ),
        ({"replicas": {"seeds": 2, "top": None}}, ["then up to 8 confirmations, 2 seeds of the best 4"]),
        (
            {"replicas": {"seeds": 2, "top": None}, "enqueue": CONTROLS},
            ["then up to 10 confirmations, 2 seeds of the best 3 and 2 controls"],
        ),
        (
            {"replicas": {"seeds": 2, "top": None}, "enqueue": CONTROLS, "trials": 2},
            ["then up to 4 confirmations, 2 seeds of 2 controls"],
        ),
        ({"replicas": {"seeds": 2, "top": 9}}, ["then up to 8 confirmations, 2 seeds of the best 4"]),
        (
            {"budget": {"gpu_hours": 1500000, "hours": 1, "accuracy": 0.5}, "resources": {"gpus_per_worker": 1}},
            ["stops after 1,500,000 GPU-hours or 1 hour or a trial of 0.5"],
        ),
    ],
)
def test_a_plan_tells_the_confirmations_and_the_budget(make_spec, changes, said):
    _, _, *more = plan(make_spec(**{"trials": 5 if "enqueue" in changes else 4} | changes)).split("; ")
    assert more == said
