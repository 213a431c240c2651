"""Where a trial's workers start on a real Ray cluster of two nodes, whose GPUs are made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from study.cluster import engines_apart, places, require_place, strategy
from study.spec import Resources, StudySpec
from study.trial import start_workers
from trainer.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[str]]:
    """The ids of a node of two GPUs and one of four, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for gpus in (2, 4):
        made.add_node(num_cpus=4, num_gpus=gpus, resources={f"node of {gpus}": 1})
    made.wait_for_nodes()
    ray.init(address=made.address, logging_level="error", log_to_driver=False)
    of = {name: each["NodeID"] for each in ray.nodes() for name in each["Resources"] if name.startswith("node of")}
    yield [of["node of 2"], of["node of 4"]]
    ray.shutdown()
    made.shutdown()


def spec_of(width: int, workers: int) -> StudySpec:
    resources = Resources(workers=workers, cpus_per_worker=0.1, gpus_per_worker=1)
    trainer = {"rollout": {"vllm": {"tensor_parallel_size": width}}}
    space = {"fipo.gamma": {"type": "uniform", "low": 0, "high": 0.9}}
    return StudySpec.model_validate({"name": "placed", "space": space, "trainer": trainer, "resources": resources})


@pytest.fixture
def placed(nodes: list[str]) -> Iterator[Callable[[StudySpec, list[int]], list[tuple[str, str, list[int]]]]]:
    """Starts the workers of a trial whose bundles Ray has put on the given nodes; (node, RANK, GPUs) of each."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    def where(worker: object) -> tuple[str, str, list[int]]:
        import os

        import ray

        return ray.get_runtime_context().get_node_id(), os.environ["RANK"], ray.get_gpu_ids()

    groups = []

    def start(spec: StudySpec, on: list[int]) -> list[tuple[str, str, list[int]]]:
        bundles = [{"CPU": 0.1, "GPU": 1, f"node of {gpus}": 0.1} for gpus in on]
        groups.append(placement_group(bundles, "PACK"))
        ray.get(groups[-1].ready())
        return ray.get([worker.__ray_call__.remote(where) for worker in start_workers(groups[-1], spec)])

    yield start
    for group in groups:
        remove_placement_group(group)


def test_ranks_that_ray_has_scattered_stand_together_and_no_engine_spans_nodes(nodes, placed, caplog) -> None:
    found = placed(spec_of(2, 6), [2, 4, 4, 2, 4, 4])
    assert [node for node, *_ in found] == [nodes[1]] * 4 + [nodes[0]] * 2
    assert [rank for _, rank, _ in found] == list("012345")
    assert [gpus for *_, gpus in found] == [[0], [1], [2], [3], [0], [1]]
    assert not caplog.records


def test_workers_that_no_node_holds_are_refused_though_the_cluster_has_as_much_in_all(nodes) -> None:
    """The nodes have 4 CPUs each, and 2 and 4 GPUs."""
    for workers, gpus, held in ((1, 6, 0), (2, 3, 1), (3, 2, 3), (6, 1, 6)):
        resources = Resources(workers=workers, cpus_per_worker=0.1, gpus_per_worker=gpus)
        if held < workers:
            with pytest.raises(UserError, match=f"{gpus} GPU each: a worker stands on one node, .* hold {held} such"):
                require_place(resources)
        else:
            require_place(resources)
        assert (places(resources) > 0) == (held >= workers)


def test_an_engine_that_has_to_span_nodes_is_told_in_the_log(nodes, placed, caplog) -> None:
    placed(spec_of(2, 4), [2, 4, 4, 4])
    (record,) = caplog.records
    assert record.getMessage() == (
        "1 of the trial's 2 vLLM engines lie on several nodes, and each layer waits for the network: the nodes hold 3,"
        " 1 ranks, and rollout.vllm.tensor_parallel_size = 2 does not divide each of these"
    )


@pytest.mark.parametrize(
    ("width", "workers", "apart"), [(1, 6, False), (2, 6, False), (3, 6, True), (6, 6, True), (3, 3, False)]
)
def test_a_launch_knows_from_the_nodes_whether_engines_have_to_span_them(nodes, width, workers, apart) -> None:
    spec = spec_of(width, workers)
    line = engines_apart(spec.resources, spec.engine_width)
    assert (line is not None) == apart
    assert line is None or line.startswith(
        f"trainer.rollout.vllm.tensor_parallel_size = {width}: nodes here hold at most 4 of the ranks"
    )


def test_a_worker_that_was_given_a_gpu_and_sees_none_says_so_and_trains_nothing(nodes, tmp_path) -> None:
    """The GPUs of these nodes are made up, so torch sees none, as with a build without CUDA or an old driver."""
    import os

    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    def hide(worker: object) -> None:  # a real one
        os.environ["CUDA_VISIBLE_DEVICES"] = ""

    group = placement_group([{"CPU": 0.1, "GPU": 1}])
    ray.get(group.ready())
    (worker,) = start_workers(group, spec_of(1, 1))
    ray.get(worker.__ray_call__.remote(hide))
    with pytest.raises(UserError, match=r"gpus_per_worker = 1: torch [^ ]+ \(built .*\) sees no GPU on node [\d.]+; "):
        ray.get(worker.begin.remote(tmp_path, ("127.0.0.1", 0)))
    remove_placement_group(group)


@pytest.mark.parametrize(("workers", "packed"), [(2, "STRICT_PACK"), (4, "STRICT_PACK"), (6, "PACK")])
def test_a_trial_lies_on_one_node_where_any_is_large_enough(nodes: list[str], workers: int, packed: str) -> None:
    """Four fit on the larger one alone."""
    assert strategy(spec_of(1, workers).resources) == packed
