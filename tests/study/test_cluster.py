"""Ray for a study: an address where nothing is, and the scratch directory, gone at the end and after a kill."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.cluster import _found, ray_session, scratch_directory
from study.spec import Resources
from trainer.errors import UserError

HOLD = (
    "import time; from study.cluster import scratch_directory\n"
    "with scratch_directory() as scratch: print(scratch, flush=True); time.sleep(600)"
)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files whose name is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.parametrize("host", ["127.0.0.1", "ray://127.0.0.1", "no-such-host.invalid"])
def test_an_address_where_nothing_answers_is_one_line_at_once(host):
    with socket.socket() as closed:  # bound, so that no one else listens there
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        address = f"{host}:{port}"
        with pytest.raises(UserError, match=rf"ray_address = '{address}': nothing answers there") as refused:
            ray_session(Resources(ray_address=address)).__enter__()
    assert len(str(refused.value).splitlines()) == 1
    at = "--ray-client-server-port" if host.startswith("ray://") else "--port"
    assert f"start it: ray start --head {at}={port}, or" in str(refused.value)


def test_what_a_killed_driver_left_is_removed_by_the_next_and_what_a_living_one_uses_is_not(temporary):
    (temporary / "fipo-mine").mkdir()  # a directory of the user's own
    (temporary / "fipo-link").symlink_to(temporary / "precious")
    (temporary / "precious").mkdir()
    (temporary / "precious" / "scratch.lock").touch()
    drivers = [subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    dead, living = (Path(driver.stdout.readline().strip()) for driver in drivers)
    try:
        drivers[0].kill()
        drivers[0].wait()
        assert dead.is_dir()
        with scratch_directory() as scratch:
            assert not dead.exists()
            left = {each.name for each in temporary.iterdir()}
            assert left == {"fipo-mine", "fipo-link", "precious", living.name, scratch.name}
            assert (temporary / "precious" / "scratch.lock").exists()
        assert not scratch.exists()
    finally:
        for driver in drivers:
            driver.kill()
            driver.communicate()


def test_a_long_name_of_the_temporary_folder_is_not_used(temporary, monkeypatch):
    long = temporary / ("x" * 40)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with scratch_directory() as scratch:
        assert scratch.parent == Path("/tmp")


ORPHAN = """
import os, sys, time
from pathlib import Path
from study.cluster import ray_session
from study.spec import Resources

starter = os.getpid()
if os.fork():
    sys.exit()
while os.getppid() == starter:
    time.sleep(0.1)
with ray_session(Resources()):
    import ray._private.worker

    ray._private.worker._global_node.kill_raylet(check_alive=False)
Path(sys.argv[1]).write_text("still there")
"""


@pytest.mark.slow
def test_a_driver_whose_parent_has_ended_outlives_its_raylet(temporary):
    """As one that was started with nohup: Ray would end it without a word."""
    told = temporary / "told"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-c", ORPHAN, str(told)], check=True, **quiet)
    deadline = time.monotonic() + 100  # generous: only a dead process reaches it
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert told.exists()


@pytest.fixture
def port() -> Iterator[int]:
    """Where something listens that takes every call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


MEET = """
import sys
import study.head
from study.cluster import ray_session
from study.spec import Resources
study.head._MEETING_SECONDS = 1.0
try:
    ray_session(Resources(ray_address=sys.argv[1])).__enter__()
except Exception as error:
    print(type(error).__name__, error)
"""
"""In a process of its own, which Ray goes on to knock from and would end."""


def test_something_else_that_listens_there_is_told_from_the_head_of_a_cluster(port):
    """It takes every call and says nothing, as the port of a dashboard would to such a question."""
    done = subprocess.run([sys.executable, "-c", MEET, f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"UserError resources.ray_address = '127.0.0.1:{port}': no connection")
    assert "has not answered as the head of a cluster within 1 s; its port is 6379" in line


@pytest.mark.parametrize("joined", ["environment", "file", None])
def test_auto_is_the_cluster_that_this_node_has_joined_or_the_only_one_that_answers(monkeypatch, port, joined):
    ours, other = f"127.0.0.1:{port}", "127.0.0.1:1"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if joined == "environment":
        monkeypatch.setenv("RAY_ADDRESS", ours)
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda _: ours if joined == "file" else None)
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: frozenset({other} | ({ours} - {joined})))
    assert _found() == ours


@pytest.mark.parametrize(
    ("joined", "running", "complaint"),
    [
        (None, (), "found no Ray here"),
        (None, ("127.0.0.1:1", "127.0.0.1:2"), "of 127.0.0.1:1, 127.0.0.1:2 none answers"),
        ("127.0.0.1:1", ("open",), "of 127.0.0.1:1 none answers"),  # a stranger's is no cluster of ours
        (None, ("open", "localhost:open"), "several answer"),
    ],
)
def test_auto_without_a_cluster_is_one_line_at_once(monkeypatch, port, joined, running, complaint):
    addresses = [each.replace("open", f"127.0.0.1:{port}" if each == "open" else str(port)) for each in running]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda _: joined)
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: frozenset(addresses))
    with pytest.raises(UserError, match=r"ray_address = 'auto'") as refused, ray_session(Resources(ray_address="auto")):
        pass
    assert complaint in str(refused.value) and "host:port" in str(refused.value)
