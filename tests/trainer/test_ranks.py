"""Joining the ranks of a run, where it fails. That it succeeds is in `test_two_ranks.py`."""

from __future__ import annotations

import socket

import pytest

from trainer.errors import RankLost
from trainer.ranks import start_ranks


def test_a_port_that_was_taken_meanwhile_is_a_lost_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a study begins the trial again, on another port."""
    with socket.create_server(("", 0)) as taken:
        where = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": taken.getsockname()[1]}
        for name, value in where.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(RankLost, match=r"rank 0 of 2: .*failed to listen"), start_ranks(timeout=20):
            pass
