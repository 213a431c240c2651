from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dashboards.serve import is_loopback, serve
from study.results import StudyResults
from trainer.errors import UserError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_everything_else_is_reachable_by_others(host: str) -> None:
    assert not is_loopback(host)


def test_a_port_in_use_is_one_line_naming_the_port(finished: StudyResults) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}") as error:
            serve([str(finished.directory)], port=port)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("token", ["", "short", "with a space in its twenty letters"])
def test_a_given_token_that_is_easily_guessed_or_no_part_of_an_address_is_refused(
    token: str, host: str, finished: StudyResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIPO_DASHBOARD_TOKEN", token)
    with pytest.raises(UserError, match="FIPO_DASHBOARD_TOKEN: allowed are 20 or more letters"):
        serve([str(finished.directory)], host=host, port=0)


def test_a_directory_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        serve([str(tmp_path)])
