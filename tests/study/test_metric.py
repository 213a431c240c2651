from __future__ import annotations

import pytest

from study.metric import metric_value
from tests.study.exported import score


@pytest.mark.parametrize(("metric", "value"), [("avg@k", 0.1), ("cons@k", 0.2), ("pass@k", 0.3)])
def test_a_metric_is_the_number_of_that_name(metric: str, value: float) -> None:
    own = score("sums_select", [0, 1], samples=4)
    assert metric_value(own.model_copy(update={"accuracy": 0.1, "cons": 0.2, "pass_at_k": 0.3}), metric) == value
