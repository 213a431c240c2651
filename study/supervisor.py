"""What must be looked after while Ray Tune runs trials, which itself would wait for ever: commands, the budget, room on
the cluster, Ray's end and lost signals."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune

from study.bridge import Bridge, StudyAborted
from study.cluster import own_groups, places, taken
from study.commands import answer_all
from study.head import require_head
from study.signals import raise_lost_interrupt
from study.tables import counted
from trainer.errors import root_line


def aborts(method: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong on our side of Tune (a full disk, a locked database) ends the study instead of one trial."""

    @functools.wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            raise StudyAborted(root_line(error)) from error

    return guarded


class NotSaved:
    """Tune pickles its parts for `Tuner.restore`. Ours are made anew from the storage instead."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Supervisor(NotSaved, tune.Callback, tune.Stopper):
    """Looks every second whether there is a command, the budget is spent, a trial gets no room, Ray has died, or a
    signal came that Python has lost."""

    _PERIOD = 1.0
    _PATIENCE = 30.0
    """Seconds without room until it is told. A trial that ends or dies gives its room to the next within one."""

    def __init__(self, bridge: Bridge, concurrency: Callable[[], int]) -> None:
        self._bridge, self._concurrency = bridge, concurrency
        self._next, self._told = 0.0, ""
        self._had_room = time.monotonic()
        self._roomless: dict[str, float] = {}
        """Since when each placement group waits for room."""
        self._over = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether one trial is to end, which the scheduler decides."""
        return False

    def stop_all(self) -> bool:
        """Whether Tune is to end: the study is ending, and no trial has room, which alone would notice."""
        return self._over

    @aborts
    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.look(trials)

    def look(self, trials: list[Any]) -> None:
        """Look and tell, once a second at most; `trials` are Tune's."""
        now = time.monotonic()
        if now < self._next:
            return
        raise_lost_interrupt()
        self._next = now + self._PERIOD
        require_own_node()
        require_directory(self._bridge.directory)
        status = [trial.status for trial in trials]
        # To ask for the groups takes longer with every trial that has been.
        groups = own_groups() if "PENDING" in status or "RUNNING" not in status else {}
        waiting = [group for group, state in groups.items() if state != "CREATED"]
        has_room = "RUNNING" in status or len(waiting) < len(groups)
        fits = self._concurrency()
        if has_room or fits == 0 or not groups:
            self._had_room = now
        self._roomless = {group: self._roomless.get(group, now) for group in waiting} if fits else {}
        self._tell(now, len(groups), none_fits=fits == 0)
        answer_all(self._bridge)
        if self._bridge.ending is None and (reason := self._bridge.account.spent()) is not None:
            self._bridge.end(reason)
        self._over = self._bridge.ending is not None and not has_room

    def _tell(self, now: float, begun: int, *, none_fits: bool) -> None:
        """Tell that there is no node or no room for any trial, or for some, when that begins, changes and ends.

        Args:
            begun: how many trials have asked for room, those that have it included.
        """
        waiting = sum(now - since >= self._PATIENCE for since in self._roomless.values())
        none = now - self._had_room >= self._PATIENCE
        held = places(self._bridge.spec.resources) if waiting else 0
        lack = "nodes" if none_fits else "room" if none else f"{waiting} of {held}" if waiting else ""
        if lack == self._told:
            return
        self._told, why = lack, None
        if lack == "nodes":
            why = "no trial fits on the nodes that are left; the study waits for more"
        elif lack == "room":
            others = taken(self._bridge.spec.resources)
            others = f"{others} are taken by others" if others else "what is free lies on several nodes"
            why = f"the cluster has room for no trial: {others}; the study waits (look: ray status)"
        elif lack:
            wait = f"{counted(waiting, 'trial')} wait{'s' * (waiting == 1)} for room beside the others"
            lost = f": the nodes that are left hold {held} at a time" if held < begun else ""
            why = f"{wait}{lost} (look: ray status)"
        self._bridge.waits(why)


def require_directory(directory: Path) -> None:
    """Raise StudyAborted when the study's `directory` is gone: its file system was unmounted, or it was moved. Trials
    would fail for good, or make a new one in its place."""
    if not (directory / "study.yaml").exists():
        raise StudyAborted("study.yaml is not to be seen there any more (moved, or its file system is gone)")


def require_own_node() -> None:
    """Raise StudyAborted when the node of this process is dead: with it Ray ends all that the process has started, also
    on other nodes."""
    require_head()
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    if ray.get_runtime_context().get_node_id() not in alive:
        what = "the node of the driver" if alive else "Ray"
        raise StudyAborted(f"{what} has died (killed, or out of memory); see driver.log")
