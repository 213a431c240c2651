"""One driver per study, on one machine and on several, also after a driver was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def test_a_killed_driver_holds_nothing(tmp_path):
    code = "import sys, time; from pathlib import Path; from study.lock import driver_lock\n"
    code += "with driver_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=str(process.pid)), driver_lock(tmp_path):
        pass
    process.kill()
    process.wait()
    assert driver(tmp_path) is None
    with driver_lock(tmp_path):
        pass


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
