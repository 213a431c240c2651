"""One driver per study, on one machine and on several, also after a driver was killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study import lock
from study.lock import STALE_SECONDS, driver, driver_lock
from trainer.errors import UserError


def heartbeat(directory: Path, *, host: str, pid: int, age: float) -> None:
    beat = directory / "driver.json"
    beat.write_text(json.dumps({"host": host, "pid": pid}))
    os.utime(beat, (time.time() - age,) * 2)


def test_a_second_driver_is_refused_with_the_name_of_the_first(tmp_path):
    with driver_lock(tmp_path):
        assert driver(tmp_path).pid == os.getpid()
        with pytest.raises(UserError, match=rf"driven by process {os.getpid()} on .*fipo stop"), driver_lock(tmp_path):
            pass
    assert driver(tmp_path) is None
    with driver_lock(tmp_path):
        pass


def suspend(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


@pytest.fixture
def other_driver(tmp_path):
    """A process that holds the lock of `tmp_path` and beats ten times a second."""
    code = "import sys, time; from pathlib import Path; from study import lock; lock.BEAT_SECONDS = 0.1\n"
    code += "with lock.driver_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_killed_driver_holds_nothing(tmp_path, other_driver):
    process = other_driver
    with pytest.raises(UserError, match=str(process.pid)), driver_lock(tmp_path):
        pass
    process.kill()
    process.wait()
    assert driver(tmp_path) is None
    with driver_lock(tmp_path):
        pass


def test_a_suspended_driver_is_told_as_one_and_goes_on(tmp_path, other_driver):
    pid, beat = other_driver.pid, tmp_path / "driver.json"
    suspend(other_driver)
    os.utime(beat, (time.time() - 2 * STALE_SECONDS,) * 2)
    found = driver(tmp_path)
    assert found.silent and found.pid == pid and f"kill -CONT {pid}" in found.waits
    told = rf"silent .* kill -CONT {pid} .* kill -9 {pid}, then fipo resume"
    with pytest.raises(UserError, match=told), driver_lock(tmp_path):
        pass
    other_driver.send_signal(signal.SIGCONT)
    while time.time() - beat.stat().st_mtime > STALE_SECONDS:
        time.sleep(0.05)
    assert not driver(tmp_path).silent and driver(tmp_path).waits is None


def test_a_driver_that_was_replaced_while_it_was_suspended_ends(tmp_path, other_driver):
    suspend(other_driver)
    heartbeat(tmp_path, host="elsewhere", pid=other_driver.pid, age=0)  # numbers are given on every machine
    other_driver.send_signal(signal.SIGCONT)
    assert other_driver.wait(60) == 2
    assert f"process {other_driver.pid} on elsewhere has taken the study up" in other_driver.stderr.read()
    assert driver(tmp_path).host == "elsewhere"


def test_the_driver_of_a_machine_that_is_renamed_goes_on(tmp_path, monkeypatch):
    ended, told = [], []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    with driver_lock(tmp_path, told.append):
        monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
        time.sleep(0.3)
        assert not ended and not told
        heartbeat(tmp_path, host="elsewhere", pid=7, age=0)
        while not ended:
            time.sleep(0.02)
    assert ended[0] == 2 and "process 7 on elsewhere" in told[0]


def test_a_driver_on_another_machine_is_alive_while_it_beats(tmp_path):
    heartbeat(tmp_path, host="elsewhere", pid=1, age=STALE_SECONDS / 2)
    with pytest.raises(UserError, match="process 1 on elsewhere"), driver_lock(tmp_path):
        pass
    heartbeat(tmp_path, host="elsewhere", pid=1, age=2 * STALE_SECONDS)
    with driver_lock(tmp_path):
        assert driver(tmp_path).pid == os.getpid()


def test_the_number_of_a_dead_process_given_to_another_is_no_driver(tmp_path):
    heartbeat(tmp_path, host=os.uname().nodename, pid=os.getpid(), age=2 * STALE_SECONDS)
    assert driver(tmp_path) is None


def test_a_torn_heartbeat_is_no_driver(tmp_path):
    (tmp_path / "driver.json").write_text('{"host": "a')
    assert driver(tmp_path) is None
