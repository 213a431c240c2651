"""A real Ray cluster whose head goes while a study runs on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from study.results import read_study
from tests.integration.test_cluster import FIPO, SPEC, until

pytestmark = pytest.mark.slow


def test_a_study_whose_head_is_killed_says_so_and_tells_it(tmp_path: Path) -> None:
    """Ray itself waits for a minute, and ends the process without a word."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    notify = {"command": ["sh", "-c", "cat >> notes"], "on": ["failed"]}
    (tmp_path / "spec.yaml").write_text(
        yaml.safe_dump(SPEC | {"resources": {"ray_address": cluster.address}, "notify": notify})
    )
    directory = tmp_path / "study"
    driver = subprocess.Popen(
        [*FIPO, "launch", "spec.yaml", "--out", "study"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until(lambda: directory.exists() and any(each.evaluations for each in read_study(directory).trials), driver)
        cluster.head_node.kill_gcs_server(check_alive=False)
        _, complaint = driver.communicate(timeout=120)
    finally:
        driver.kill()
        cluster.shutdown()
    assert driver.returncode == 2
    (line,) = complaint.strip().splitlines()
    assert "the head of the Ray cluster does not answer any more" in line and "fipo resume" in line
    assert "the head of the Ray cluster does not answer" in (tmp_path / "notes").read_text()
    assert [each.state for each in read_study(directory).trials] == ["RUNNING"]
