"""Which settings of a study go together, and which do nothing."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from study import pruners
from study.controls import loose_controls, sampled_dapo
from study.space import grid_values
from study.spec import StudySpec
from study.tables import counted


def plugin_mistakes(spec: StudySpec) -> Iterator[str]:
    """What of the file does not go with its sampler or pruner."""
    first_look, pruner = spec.selecting.first_look, spec.pruner
    if first_look is not None and pruner.name != "aime":
        yield (
            f"trainer.evaluation.sets[0].first_look = {first_look}: pruner {pruner.name} cannot say when samples are"
            " enough; set pruner.name to aime, or remove first_look"
        )
    if (seer := pruners.sees_problems(pruner.name, pruner.options)) and spec.metric != "avg@k":
        yield f"metric = {spec.metric!r}: pruner {seer} compares avg@k; set metric to avg@k, or another pruner"
    grid = _lists_values(spec)
    for key, distribution in spec.space.items():
        if grid and grid_values(distribution) is None:
            yield (
                f"space.{key}.type = {distribution.type!r}: sampler {spec.sampler.name} needs grid, choice or int;"
                " list its values"
            )
        if not grid and distribution.type == "grid":
            yield (
                f"space.{key}.type = 'grid': sampler {spec.sampler.name} does not try every value;"
                " set sampler.name to grid, or the type to choice"
            )
    labels = [control.label for control in spec.enqueue]
    if len(set(labels)) != len(labels):
        yield f"enqueue has the labels {', '.join(labels)}; each may stand once, rename one"
    if len(labels) > spec.trials:
        yield f"trials = {spec.trials} is fewer than the {len(labels)} controls in enqueue; raise it"


def setting_mistakes(spec: StudySpec, *, enqueued: int) -> Iterator[str]:
    """Which of its settings do not go together, or with what is installed; also of a spec that changed while it runs.

    Args:
        enqueued: trials that are in the study beside those that the sampler gives.
    """
    if _lists_values(spec):
        size = _points(spec)
        if size and spec.trials > size + enqueued:
            yield (
                f"trials = {spec.trials}: the grid has {size} points, and {enqueued} were enqueued;"
                f" set at most {size + enqueued}"
            )
    for name in ("wandb", "mlflow"):
        if getattr(spec.tracking, name) is not None and find_spec(name) is None:
            yield f"tracking.{name}: the package {name} is not installed; pip install {name}, or remove it"
    if spec.budget.gpu_hours is not None and not spec.resources.gpus_per_worker:
        yield (
            f"budget.gpu_hours = {spec.budget.gpu_hours:g}: resources.gpus_per_worker is 0, so no GPU-hour is"
            " ever spent; set it, or use budget.hours"
        )
    workers, width = spec.resources.workers, spec.engine_width
    if workers % width:
        yield (
            f"trainer.rollout.vllm.tensor_parallel_size = {width}: must divide resources.workers = {workers}, the ranks"
            " of a trial; change one of them"
        )
    if spec.against is None:
        return
    if spec.pruner.name != "none":
        yield (
            f"pruner.name = {spec.pruner.name!r}: no pruner can look at two objectives (against = {spec.against});"
            " set it to none, or remove against"
        )
    if spec.replicas is not None:
        yield f"replicas: with two objectives (against = {spec.against}) no trial is the best; remove one"


def _shared_sqlite(spec: StudySpec) -> Iterator[str]:
    if spec.resources.ray_address is not None and spec.storage == "sqlite":
        yield (
            "storage = 'sqlite' is not made for the file system that the nodes of a cluster share, and may lock up"
            " there or be damaged; set storage: journal, or the URL of a database"
        )


def _part_of_grid(spec: StudySpec) -> Iterator[str]:
    whole = _points(spec) + len(spec.enqueue)
    if _lists_values(spec) and spec.trials < whole:
        beside = f" beside {counted(len(spec.enqueue), 'control')}" if spec.enqueue else ""
        sampled = spec.trials - len(spec.enqueue)
        yield f"trials = {spec.trials}: {sampled} of the grid's {_points(spec)} points{beside}; {whole} try them all"


def _repeating(spec: StudySpec) -> Iterator[str]:
    points, sampled = _points(spec), spec.trials - len(spec.enqueue)
    if spec.sampler.name != "grid" and 0 < points < sampled:
        yield (
            f"trials = {spec.trials}: the space has {counted(points, 'point')}, so {sampled - points} or more of them"
            f" repeat another, with the same seed and to the same numbers; set trials to {points + len(spec.enqueue)}"
            f" and sampler.name to grid{'' if spec.against else ', and replicas for other seeds'}"
        )


def _points(spec: StudySpec) -> int:
    """Of its grid; 0 where the space has values that cannot be listed."""
    return math.prod(len(grid_values(distribution) or ()) for distribution in spec.space.values())


def _lists_values(spec: StudySpec) -> bool:
    return spec.sampler.name in ("grid", "brute-force")


def hardly_meant(spec: StudySpec) -> list[str]:
    """What a checked spec says that is allowed and hardly meant, each in one line with what to change."""
    warmup = spec.trainer.get("optimizer", {}).get("warmup_steps", 0)
    kinds = (idle_pruner, _part_of_grid, _repeating, sampled_dapo, loose_controls, _deaf_notify, _shared_sqlite)
    lines = [line for kind in kinds for line in kind(spec)]
    if warmup >= spec.steps:
        lines.append(
            f"trainer.optimizer.warmup_steps = {warmup}: the learning rate rises through all {spec.steps} steps of"
            " training; lower it, or raise trainer.steps"
        )
    return lines


def _deaf_notify(spec: StudySpec) -> Iterator[str]:
    """Why no one would be told, on this machine at least."""
    if spec.notify is None:
        return
    command, webhook = spec.notify.command, spec.notify.webhook or ""
    if command is not None and shutil.which(command[0]) is None:
        yield f"notify.command[0] = {command[0]!r}: no such program here; give its path, or install it"
    unset = [name for each in re.findall(r"\$(?:(\w+)|{(\w+)})", webhook) if (name := "".join(each)) not in os.environ]
    if unset:
        yield f"notify.webhook: {', '.join(unset)} is not set in the environment; export it first"


def idle_pruner(spec: StudySpec) -> list[str]:
    """Why the pruner of a checked spec can never stop a trial and what to change, in one line; else none."""
    if spec.pruner.name == "none":
        return []
    inner = spec.pruner.options.get("wrapped_pruner", {})
    reasons = [
        reason
        for name, options in ((spec.pruner.name, spec.pruner.options), (inner.get("name"), inner))
        for reason in _idle_options(spec, name, options)
    ]
    return [f"pruner {spec.pruner.name} can never stop a trial: {'; and '.join(reasons)}"] if reasons else []


def _idle_options(spec: StudySpec, name: str | None, options: Mapping[str, Any]) -> Iterator[str]:
    steps, every = spec.steps, spec.selecting.every
    between = 0 if every is None else (steps - 1) // every  # where there is something to save
    if not between:
        if name == spec.pruner.name:
            said = "null" if every is None else every
            yield (
                f"trainer.evaluation.sets[0].every = {said} evaluates nothing between the base model and the last of"
                f" {steps} steps; lower it, or set pruner.name to none"
            )
        return
    last, looks = between * (every or 0), between - (name == "patient")
    wait = (
        f"so many trials have to complete first, and trials = {spec.trials}; raise trials above it, lower it, or set"
        " pruner.name to none"
    )
    late = f"the last evaluation before the end is after step {last}; lower it to {last} or less"
    lie = "1 evaluation lies" if between == 1 else f"{between} evaluations lie"
    often = f"only {lie} between the base model and the last step; lower it, or evaluate more often"
    limits = {
        "n_startup_trials": (spec.trials - 1, wait),
        "n_min_trials": (spec.trials - 1, wait),
        "n_warmup_steps": (last, late),
        "min_resource": (last, late),
        "patience": (looks, often),
    }
    for key, (limit, why) in limits.items():
        value = options.get(key)
        if isinstance(value, int) and value > limit:
            yield f"{key} = {value}: {why}"
