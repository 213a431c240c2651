"""A study on a real Ray cluster of two nodes: a trial over both, one of which dies under it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from study.cluster import places, require_place, strategy
from study.results import read_study
from study.spec import Resources
from tests.integration.launching import driven, fipo, wait_for
from trainer.base_model import ensure_base_model
from trainer.errors import UserError

pytestmark = pytest.mark.slow

SPEC = {
    "name": "cluster",
    "storage": "journal",
    "trials": 1,
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "space": {"optimizer.learning_rate": {"type": "choice", "values": [5e-5, 6e-5]}},
    "trainer": {
        "steps": 10,
        "rank_timeout": 20,
        "rollout": {"prompts_per_step": 8, "group_size": 8},
        "optimizer": {"prompts_per_minibatch": 4},
        "evaluation": {"sets": [{"name": "sums", "path": "embedded:select", "samples": 2, "every": 1}]},
        "checkpoint": {"every": 1},
    },
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two nodes of one core, each a raylet of its own; the head keeps no core, so that it never hosts a rank."""
    import ray
    from ray.cluster_utils import Cluster

    health = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_initial_delay_ms": 0}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": health})
    for _ in range(2):
        made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def until(condition, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300  # generous: only a hang reaches it
    while not condition():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_a_trial_over_two_nodes_goes_on_after_one_of_them_died(tmp_path: Path, cluster) -> None:
    """Its ranks could share no engine, of which the launch warns and the trial too, each time that it is placed."""
    import ray

    rollout = SPEC["trainer"]["rollout"] | {"vllm": {"tensor_parallel_size": 2}}
    trainer = SPEC["trainer"] | {"model": {"path": str(ensure_base_model())}, "rollout": rollout}
    resources = {"workers": 2, "ray_address": cluster.address}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC | {"trainer": trainer, "resources": resources}))
    directory = tmp_path / "study"

    def evaluated() -> int:
        return len(read_study(directory).trials[0].evaluations) if directory.exists() else 0

    with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
        until(lambda: directory.exists() and read_study(directory).trials and evaluated() >= 3, driver)
        before = evaluated()
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        with ray.init(address=cluster.address, logging_level="error", log_to_driver=False):
            until(lambda: places(Resources(workers=2)) == 0, driver)
        time.sleep(5)  # the driver meets a cluster on which no trial fits, and waits for a node
        assert driver.poll() is None
        cluster.add_node(num_cpus=1)
        said, complaint = driver.communicate(timeout=300)
    assert driver.returncode == 0, complaint
    (trial,) = read_study(directory).trials
    assert trial.state == "COMPLETE"
    assert [each.step for each in trial.evaluations] == list(range(11))
    assert before < 11  # the node died before the end
    assert "1 of 1 trials: 1 COMPLETE" in said
    assert "Warning: trainer.rollout.vllm.tensor_parallel_size = 2: nodes here hold at most 1 of the ranks" in said
    assert (directory / "driver.log").read_text().count("1 of the trial's 1 vLLM engines lie on several nodes") >= 2


def test_a_trial_is_kept_on_one_node_where_it_fits_and_spread_where_it_does_not(cluster) -> None:
    import ray

    alone, both = Resources(workers=1), Resources(workers=2)
    with ray.init(address=cluster.address, logging_level="error", log_to_driver=False):
        assert (strategy(alone), places(alone)) == ("STRICT_PACK", 2)
        assert (strategy(both), places(both)) == ("PACK", 1)
        assert places(Resources(workers=3)) == 0  # as when a node is lost: a running study waits for another
        with pytest.raises(UserError, match="there are 2 here; lower them"):
            require_place(Resources(workers=3))


def test_a_trial_that_fits_nowhere_is_refused_with_what_there_is(tmp_path: Path, cluster) -> None:
    resources = {"workers": 3, "ray_address": cluster.address}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC | {"resources": resources}))
    launched = fipo("launch", "spec.yaml", "--out", "study", cwd=tmp_path)
    assert launched.returncode == 2
    assert "there are 2 here; lower them" in launched.stderr
    assert not (tmp_path / "study").exists()


def test_a_study_tells_that_others_take_the_room_and_goes_on_when_they_leave(tmp_path: Path, cluster) -> None:
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    changes = {"trainer": SPEC["trainer"] | {"steps": 2}, "resources": {"ray_address": cluster.address}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC | changes))
    directory = tmp_path / "study"

    def waits() -> bool:
        return directory.exists() and "are taken by others" in (read_study(directory).waits or "")

    with ray.init(address=cluster.address, logging_level="error", log_to_driver=False):
        held = placement_group([{"CPU": 1}, {"CPU": 1}])
        ray.get(held.ready())
        with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
            until(waits, driver)
            remove_placement_group(held)
            said, complaint = driver.communicate(timeout=300)
    assert driver.returncode == 0, complaint
    assert "the cluster has room for no trial: 2 of 2 CPUs are taken by others; the study waits" in said
    assert "there is room again, and the study goes on" in said and "1 of 1 trials: 1 COMPLETE" in said


def test_a_trial_that_finds_no_room_on_the_nodes_that_are_left_is_told_while_another_runs(
    tmp_path: Path, cluster
) -> None:
    changes = {"trials": 2, "trainer": SPEC["trainer"] | {"steps": 5000}, "resources": {"ray_address": cluster.address}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC | changes))
    directory = tmp_path / "study"

    def evaluated() -> bool:
        trials = read_study(directory).trials if directory.exists() else []
        return len(trials) == 2 and all(each.evaluations for each in trials)

    with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
        until(evaluated, driver)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        until(lambda: read_study(directory).waits is not None, driver)
        assert (
            read_study(directory).waits
            == "1 trial waits for room beside the others: the nodes that are left hold 1 at a time (look: ray status)"
        )
        assert sum(not each.starting for each in read_study(directory).trials) == 1
        cluster.add_node(num_cpus=1)
        until(lambda: read_study(directory).waits is None, driver)
        assert fipo("stop", str(directory), cwd=tmp_path).returncode == 0
        said, complaint = driver.communicate(timeout=300)
    assert driver.returncode == 0, complaint
    assert "there is room again, and the study goes on" in said


def test_a_study_whose_drivers_own_node_dies_ends_at_once_and_can_be_resumed(tmp_path: Path, cluster) -> None:
    """Ray takes the driver for dead then, and with it all that it starts on other nodes: nothing would ever train.

    The last test of this cluster, whose head does not come back.
    """
    import ray
    from ray.util.placement_group import placement_group_table

    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC | {"resources": {"ray_address": cluster.address}}))
    directory = tmp_path / "study"
    with driven(tmp_path, "launch", "spec.yaml", "--out", "study") as driver:
        wait_for(lambda trials: any(each.evaluations for each in trials), directory, driver)
        cluster.head_node.kill_raylet(check_alive=False)  # the driver's; the other nodes and Ray's records live on
        _, complaint = driver.communicate(timeout=120)
    assert driver.returncode == 2
    (line,) = complaint.strip().splitlines()
    assert "the node of the driver has died" in line and "fipo resume" in line
    assert [each.state for each in read_study(directory).trials] == ["RUNNING"]
    with ray.init(address=cluster.address, logging_level="error", log_to_driver=False):
        assert {each["state"] for each in placement_group_table().values()} == {"REMOVED"}
