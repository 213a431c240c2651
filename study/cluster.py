"""Ray for a study: a local one on loopback, quiet and gone afterwards, or a running cluster that is only visited."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from study.head import head_answers, knock, meet
from study.signals import sigterm_kept
from study.spec import Resources
from trainer.errors import UserError

if TYPE_CHECKING:
    import ray

_LONGEST = 41  # Unix socket paths end at about 107 bytes and Ray adds up to 66 below it
_LOCK = "scratch.lock"


@contextlib.contextmanager
def ray_session(resources: Resources) -> Iterator[Path]:
    """Ray is up inside the block. Yields a scratch directory that is removed afterwards. Import ray only inside.

    Raises:
        UserError: no cluster at `ray_address`, or the local one did not start.
    """
    address = resources.ray_address
    if address is not None:
        _require_answer(address)
    with scratch_directory() as scratch:
        prepare_environment(local=address is None)
        import ray

        address = _found() if address == "auto" else address
        options = {"logging_level": "error", "log_to_driver": True, "configure_logging": False, "job_config": _job()}
        try:
            if address is None:
                # Below the scratch directory, which is closed to others: Ray's own is open to all.
                options |= {"include_dashboard": False, "_temp_dir": str(scratch / "r")}
            elif "://" not in address:
                meet(address)
            with sigterm_kept():
                ray.init(address=address or "local", **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if resources.ray_address is None:
                raise UserError(f"local Ray: did not start ({line}); see driver.log") from None
            raise UserError(
                f"resources.ray_address = {resources.ray_address!r}: no connection ({line}); check the address and,"
                " with ray status, that Ray is up on this node; if `ray start` said that token authentication is"
                " enabled, set RAY_AUTH_MODE=token here too, and its RAY_AUTH_TOKEN unless ~/.ray/auth_token holds it"
            ) from None
        try:
            yield scratch
        finally:
            ray.shutdown()


def _job() -> ray.job_config.JobConfig:
    """Workers import what is installed, as the driver does. Ray has them import from the driver's working directory
    before anything else, where a `trainer.py` or a second clone may lie."""
    from ray.job_config import JobConfig

    class Installed(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            """With a working directory of the job's own Ray adds none of the driver's; it asks nothing else of it."""
            return True

    return Installed()


def places(resources: Resources) -> int:
    """How many trials fit on the connected Ray at a time: 0 while a node that they need is lost."""
    nodes, needs = _nodes(), _needs(resources)
    return sum(_fit(node, needs) for node in nodes) or _workers(nodes, resources) // resources.workers


def require_place(resources: Resources) -> None:
    """Raise UserError when not even one trial fits on the connected Ray."""
    import ray

    have = ray.cluster_resources()
    for name, need in _needs(resources).items():
        if need > have.get(name, 0):
            raise UserError(
                f"resources.workers = {resources.workers} with {need / resources.workers:g} {name} each need {need:g}"
                f" {name}, and there are {have.get(name, 0):g} here; lower them, or set resources.ray_address to a"
                " larger cluster"
            )
    if (found := _workers(_nodes(), resources)) < resources.workers:
        each = " and ".join(f"{need:g} {name}" for name, need in _each(resources).items())
        raise UserError(
            f"resources.workers = {resources.workers} with {each} each: a worker stands on one node, and the nodes here"
            f" hold {found} such workers; lower them, or set resources.ray_address to another cluster"
        )


def engines_apart(resources: Resources, width: int) -> str | None:
    """Why vLLM engines of `width` ranks lie on several nodes of the connected Ray, in a line; None if none has to."""
    share = max((_fit(node, _each(resources)) for node in _nodes()), default=0)
    if resources.workers <= share or share % width == 0:
        return None
    return (
        f"trainer.rollout.vllm.tensor_parallel_size = {width}: nodes here hold at most {share} of the ranks, so engines"
        f" lie on several nodes and each of their layers waits for the network; set one that divides {share}"
    )


def room(resources: Resources) -> int | None:
    """How many trials fit at a time: on the connected Ray, else by the cores of this machine; None if not known."""
    if "ray" in sys.modules:
        import ray

        if ray.is_initialized():
            return places(resources)
    if resources.ray_address is not None or resources.gpus_per_worker:
        return None
    return _fit({"CPU": float(os.cpu_count() or 1)}, _needs(resources))


def taken(resources: Resources) -> str:
    """What is taken of that which a trial needs, for example ``2 of 4 CPUs``; nothing where all is free."""
    import ray

    have, free = ray.cluster_resources(), ray.available_resources()
    held = {name: have.get(name, 0) - free.get(name, 0) for name in _needs(resources)}
    return " and ".join(f"{used:g} of {have[name]:g} {name}s" for name, used in held.items() if used > 0)


def own_groups() -> dict[str, str]:
    """The state of each placement group that this process has made, by its id; without those that are removed."""
    import ray
    from ray.util.placement_group import placement_group_table

    job = ray.get_runtime_context().get_job_id()  # the id of all that a job makes ends in the job's
    states = {group: about["state"] for group, about in placement_group_table().items() if group.endswith(job)}
    return {group: state for group, state in states.items() if state != "REMOVED"}


def remove_groups() -> None:
    """Give back the placement groups that this process has made; what runs in them ends.

    Ray does so when a driver leaves, but not once it has taken the driver for dead: what it makes after that stays.
    """
    if not head_answers():  # with it go the groups
        return
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    for group in own_groups():
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))


def strategy(resources: Resources) -> str:
    """How Ray is to place a trial's workers: all on one node where any is large enough, else on as few as it takes."""
    needs = _needs(resources)
    return "STRICT_PACK" if any(_fit(node, needs) for node in _nodes()) else "PACK"


def _needs(resources: Resources) -> dict[str, float]:
    """What all workers of a trial take together."""
    return {name: amount * resources.workers for name, amount in _each(resources).items()}


def _each(resources: Resources) -> dict[str, float]:
    """What one worker takes."""
    each = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    return {name: amount for name, amount in each.items() if amount}


def _workers(nodes: list[dict[str, float]], resources: Resources) -> int:
    """How many workers of a trial the nodes hold, each on one of them."""
    return sum(_fit(node, _each(resources)) for node in nodes)


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fit(have: dict[str, float], needs: dict[str, float]) -> int:
    return min(int(have.get(name, 0) // need) for name, need in needs.items())


def _found() -> str:
    """What `auto` stands for: RAY_ADDRESS, the cluster that this node has joined with `ray start`, else the only Ray
    here that answers. Ray itself may take a study's own, which is on loopback, and knocks for a quarter of an hour.

    Raises:
        UserError: there is none, none that answers, or more than one.
    """
    from ray._private import services, utils

    joined = os.environ.get("RAY_ADDRESS") or utils.read_ray_address(None)
    known = [joined] if joined else sorted(services.find_gcs_addresses())
    answering = [each for each in known if _answers(each)]
    if len(answering) == 1:
        return answering[0]
    of = f"of {', '.join(known)}"
    if answering:
        found = f"{of} several answer; write the address of yours, host:port"
    else:
        found = f"{of} none answers" if known else "found no Ray here"
        found += "; start your cluster (ray start), or write its address, host:port"
    raise UserError(f"resources.ray_address = 'auto': {found}")


def _answers(address: str) -> bool:
    try:
        _require_answer(address)
    except UserError:
        return False
    return True


def _require_answer(address: str) -> None:
    """Raise UserError when nothing listens at host:port. Ray itself would knock for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # auto
    try:
        knock(host, port)
    except (OSError, OverflowError) as error:
        at = "--ray-client-server-port" if address.startswith("ray://") else "--port"
        raise UserError(
            f"resources.ray_address = {address!r}: nothing answers there ({error}); start it: ray start --head"
            f" {at}={port}, or check the address"
        ) from None


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory of this process's own, gone after the block. What killed processes left beside it goes first."""
    made = Path(tempfile.mkdtemp(prefix=".fipo-"))
    if len(str(made)) > _LONGEST and os.name == "posix":
        made.rmdir()
        made = Path(tempfile.mkdtemp(prefix=".fipo-", dir="/tmp"))
    for lock in made.parent.glob(f"fipo-*/{_LOCK}"):
        # The kernel gives a lock back when its process dies. A symbolic link is not followed.
        with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.parent, ignore_errors=True)
    with FileLock(made / _LOCK):  # before it gets the name by which others look for it
        scratch = made.rename(made.with_name(made.name.removeprefix(".")))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def prepare_environment(*, local: bool) -> None:
    """Settings that Ray reads when it is imported. What the user has set stays, but for what it listens on, who may
    reach it, and what it takes for the raylet of this process.

    Raises:
        RuntimeError: ray was imported before.
    """
    defaults = {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 all but stops the trials beside any other work; `nice fipo` still counts
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: it settles the trials
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # A process without a parent (nohup, its shell left) takes its raylet for dead where none is named, and when a
    # message to it fails Ray ends the process without a word. Named is one that lives for as long: itself.
    os.environ["RAY_RAYLET_PID"] = str(os.getpid())
    if not local:
        return
    if "ray" in sys.modules and "RAY_AUTH_TOKEN" not in os.environ:
        raise RuntimeError("ray was imported before its settings were made; import it inside or after ray_session")
    # Else torch's Gloo listens where the machine's name resolves to.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    # The one switch that makes Ray listen on loopback only, on Linux as well.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # Other users of the machine can reach loopback, so a token of this process's own; it lives in the environment only.
    # Without one Ray writes a token for all its clusters into the home directory, readable to all.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_AUTH_MODE"] = "token"
