"""A real Ray cluster whose head goes while a study runs on it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from study.ending import ending
from study.results import read_study
from tests.integration.launching import driven, events, notify, wait_for
from tests.integration.test_cluster import SPEC

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("when", ["between calls", "within a call", "after a signal"])
def test_a_study_whose_head_is_killed_says_so_and_tells_it(tmp_path: Path, when: str) -> None:
    """Ray itself waits for a minute and ends the process without a word, also where a call waits for the head."""
    signalled = when == "after a signal"
    from ray.cluster_utils import Cluster

    cluster, directory = Cluster(initialize_head=True, head_node_args={"num_cpus": 1}), tmp_path / "study"
    resources = {"ray_address": cluster.address}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC | {"resources": resources, "notify": notify(tmp_path)}))
    try:
        with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
            wait_for(lambda trials: any(each.evaluations for each in trials), directory, driver)
            if when != "between calls":  # a head that stands still is called, and does not answer
                os.kill(cluster.head_node.all_processes["gcs_server"][0].process.pid, signal.SIGSTOP)
                if signalled:
                    driver.terminate()
                time.sleep(5)
            cluster.head_node.kill_gcs_server(check_alive=False)
            _, complaint = driver.communicate(timeout=120)
    finally:
        cluster.shutdown()
    assert driver.returncode == (130 if signalled else 2)
    (line,) = complaint.strip().splitlines()
    why = "interrupted by a signal" if signalled else "the head of the Ray cluster does not answer"
    assert ("Interrupted; " if signalled else f"{why} any more") in line and "fipo resume" in line
    (told,) = [each["text"] for each in events(tmp_path) if each["event"] == ("finished" if signalled else "failed")]
    assert why in told and why in (ending(directory) or "")
    assert [each.state for each in read_study(directory).trials] == ["RUNNING"]
