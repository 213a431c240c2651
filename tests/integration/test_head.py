"""A real Ray cluster whose head goes while a study runs on it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from study.ending import ending
from study.results import read_study
from tests.integration.launching import driven, events, notify, wait_for
from tests.integration.test_cluster import SPEC

pytestmark = pytest.mark.slow


def test_a_study_whose_head_is_killed_says_so_and_tells_it(tmp_path: Path) -> None:
    """Between its calls to Ray, within one, and after a signal: three studies at once, for each waits long.

    Ray itself waits for a minute and ends the process without a word, also where a call waits for the head.
    """
    from ray.cluster_utils import Cluster

    silent = "the head of the Ray cluster does not answer"
    endings = {
        "between calls": (2, f"{silent} any more", silent, "failed"),
        "within a call": (2, f"{silent} any more", silent, "failed"),
        "after a signal": (130, "Interrupted; ", "interrupted by a signal", "finished"),
    }
    heads, drivers = {}, dict[str, subprocess.Popen[str]]()
    with contextlib.ExitStack() as stack:
        for when in endings:
            cluster, folder = Cluster(initialize_head=True, head_node_args={"num_cpus": 1}), tmp_path / when
            stack.callback(cluster.shutdown)
            changes = {"resources": {"ray_address": cluster.address}, "trainer": SPEC["trainer"] | {"steps": 5000}}
            folder.mkdir()
            (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC | changes | {"notify": notify(folder)}))
            heads[when] = cluster.head_node
            drivers[when] = stack.enter_context(driven(folder, "launch", "spec.yaml", "--out", "study"))
        for when, driver in drivers.items():
            wait_for(lambda trials: any(each.evaluations for each in trials), tmp_path / when / "study", driver)
        for when, head in heads.items():
            if when != "between calls":  # a head that stands still is called, and does not answer
                os.kill(head.all_processes["gcs_server"][0].process.pid, signal.SIGSTOP)
        drivers["after a signal"].terminate()
        time.sleep(5)
        for head in heads.values():
            head.kill_gcs_server(check_alive=False)
        complaints = {when: driver.communicate(timeout=120)[1] for when, driver in drivers.items()}
    for when, (code, words, why, event) in endings.items():
        directory = tmp_path / when / "study"
        assert drivers[when].returncode == code, when
        (line,) = complaints[when].strip().splitlines()
        assert words in line and "fipo resume" in line, when
        (told,) = [each["text"] for each in events(directory.parent) if each["event"] == event]
        assert why in told and why in (ending(directory) or ""), when
        assert [each.state for each in read_study(directory).trials] == ["RUNNING"], when
