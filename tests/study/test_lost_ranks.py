"""Which of its ranks' errors ends a trial, by real Ray calls: one that loses another raises too, and often sooner."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import ray
from ray.exceptions import RayActorError, RayTaskError

from study.cluster import ray_session
from study.spec import Resources
from study.trial import first_cause
from trainer.errors import RankLost, UserError

pytestmark = pytest.mark.slow


def rank_class() -> type:
    """A worker that ends like one that trains. Its class is local, so that its process need not load this module."""

    class Rank:
        def advance(self, error: Exception | None, after: float) -> None:
            time.sleep(after)
            if error is None:
                os._exit(1)
            raise error

    return Rank


@pytest.fixture(scope="module", autouse=True)
def connected() -> Iterator[None]:
    with ray_session(Resources()):
        yield


@pytest.mark.parametrize(
    ("errors", "cause"),
    [
        ([RankLost("0"), RankLost("1")], RankLost("0")),
        ([RankLost("0"), UserError("1")], UserError("1")),
        ([UserError("0"), RankLost("1")], UserError("0")),
        ([RankLost("0"), UserError("1"), None], None),
    ],
)
def test_a_death_is_before_all_else_and_a_lost_rank_after_all_else(errors, cause):
    rank = ray.remote(rank_class())
    ranks = [rank.options(num_cpus=0).remote() for _ in errors]
    calls = [
        rank.advance.remote(error, 0.3 * place) for place, (rank, error) in enumerate(zip(ranks, errors, strict=True))
    ]
    with pytest.raises(RayTaskError) as first:
        ray.get(calls[0])
    found = first_cause(first.value, calls[1:])
    if cause is None:
        assert isinstance(found, RayActorError)
    else:
        assert (type(found.cause), str(found.cause)) == (type(cause), str(cause))
