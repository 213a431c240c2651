"""Reading a spec that a person wrote: everything that can be wrong is found here, before anything is started."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from study import pruners, samplers
from study.keys import check_key, leaves
from study.overrides import apply_set
from study.space import Choice, LogUniform, Uniform, Value, contains, describe, grid_values
from study.spec import Control, Plugin, StudySpec, get_dotted
from study.storage import directions
from trainer.config import TrainerConfig
from trainer.config_file import read_yaml, validate
from trainer.errors import UserError

_CORNERS = 4096
_SHARED = ("evaluation", "steps", "threads")


def load_spec(path: Path, *, sets: Sequence[str] = ()) -> StudySpec:
    """Read, complete and check a study spec; `sets` are ``key=value`` texts that have the last word.

    Raises:
        UserError: one line with the file, the key, the value, what is allowed and what to do.
    """
    data = read_yaml(path)
    for assignment in sets:
        apply_set(data, assignment)
    spec = validate(StudySpec, data, source=str(path))
    try:
        return _complete(spec)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def trainer_configs(spec: StudySpec) -> Iterable[TrainerConfig]:
    """Configs at the corners of the space: every combination of ends and choices, or one key at a time if too many.

    Raises:
        UserError: at the first that is not a valid TrainerConfig.
    """
    ends = {key: distribution.ends() for key, distribution in spec.space.items()}
    if math.prod(map(len, ends.values())) <= _CORNERS:
        points = (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()))
    else:
        first = {key: values[0] for key, values in ends.items()}
        points = ({**first, key: value} for key, values in ends.items() for value in values)
    for point in points:
        yield _config(spec, point)


def _complete(spec: StudySpec) -> StudySpec:
    for key, distribution in spec.space.items():
        _check_swept(key, "space")
        if leaves(TrainerConfig)[key] is int and isinstance(distribution, Uniform | LogUniform):
            raise UserError(
                f"space.{key}.type = {distribution.type!r} gives fractions and {key} is a whole number;"
                " set the type to int"
            )
    if "fipo.gamma" in spec.space and "fipo.half_life" in spec.space:
        raise UserError("space has fipo.gamma and fipo.half_life, which are the same quantity; keep one of them")
    configs = iter(trainer_configs(spec))
    base = next(configs)
    for _ in configs:
        pass
    spec = spec.model_copy(update={"trainer": _full_trainer(base, spec), "space": _typed_space(spec)})
    sampler, pruner = spec.sampler, spec.pruner
    sampler = Plugin(name=sampler.name, **samplers.complete(sampler.name, sampler.options, spec.seed))
    pruner = Plugin(name=pruner.name, **pruners.complete(pruner.name, pruner.options))
    spec = spec.model_copy(update={"sampler": sampler, "pruner": pruner})
    first_look = spec.evaluation_config().sets[0].first_look
    if first_look is not None and pruner.name != "aime":
        raise UserError(
            f"trainer.evaluation.sets[0].first_look = {first_look}: pruner {pruner.name} cannot say when samples are"
            " enough; set pruner.name to aime, or remove first_look"
        )
    if pruners.sees_problems(pruner.name, pruner.options) and spec.metric != "avg@k":
        raise UserError(f"metric = {spec.metric!r}: pruner aime compares avg@k; set metric to avg@k, or another pruner")
    _check_types(spec)
    check_settings(spec, controls=len(spec.enqueue))
    _rehearse(spec)
    labels = [control.label for control in spec.enqueue]
    if len(set(labels)) != len(labels):
        raise UserError(f"enqueue has the labels {', '.join(labels)}; each may stand once, rename one")
    if len(labels) > spec.trials:
        raise UserError(f"trials = {spec.trials} is fewer than the {len(labels)} controls in enqueue; raise it")
    controls = tuple(checked_control(spec, control.label, control.values) for control in spec.enqueue)
    return spec.model_copy(update={"enqueue": controls})


def _rehearse(spec: StudySpec) -> None:
    """Two trials without training: some samplers and pruners refuse their options only at work."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler, pruner = samplers.make_sampler(spec, 0), pruners.make_pruner(spec.pruner.name, spec.pruner.options)
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), sampler=sampler, pruner=pruner, directions=directions(spec)
    )
    try:
        for _ in range(2):
            trial = study.ask({key: each.optuna() for key, each in spec.space.items()})
            if spec.against is None:
                trial.report(0.0, 1)
                trial.should_prune()
            study.tell(trial, [0.0] * len(study.directions))
    except (ValueError, TypeError, ImportError) as error:
        line = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"sampler {spec.sampler.name} with pruner {spec.pruner.name}: {line}; change that option"
        ) from None


def _config(spec: StudySpec, values: dict[str, Any]) -> TrainerConfig:
    try:
        return spec.config(values, source="")
    except UserError as error:
        text = str(error).removeprefix(": ")
        swept = "is not a known key" not in text and any(key.split(".")[-1] in text for key in values)
        raise UserError(f"{'space' if swept else 'trainer'}: {text}") from None


def _full_trainer(base: TrainerConfig, spec: StudySpec) -> dict[str, Any]:
    """Every trainer value but the swept ones."""
    full = base.model_dump(mode="json")
    for key in spec.space:
        *parents, last = key.split(".")
        part = full
        for parent in parents:
            part = part[parent]
        del part[last]
    return full


def _typed_space(spec: StudySpec) -> dict[str, Any]:
    """Choices as the trainer reads them: YAML takes 1e-4 for text."""
    first = {key: distribution.ends()[0] for key, distribution in spec.space.items()}
    typed: dict[str, Any] = {}
    for key, distribution in spec.space.items():
        if isinstance(distribution, Choice):
            values = [get_dotted(_config(spec, {**first, key: value}), key) for value in distribution.values]
            distribution = Choice(type=distribution.type, values=tuple(values))
        typed[key] = distribution
    return typed


def check_settings(spec: StudySpec, *, controls: int) -> None:
    """What has to hold of a spec also when it has changed while its study runs.

    Args:
        controls: trials that are in the study beside those that the sampler gives.
    Raises:
        UserError: two of its settings, or one and what is installed, do not go together.
    """
    _check_size(spec, controls)
    for name in ("wandb", "mlflow"):
        if getattr(spec.tracking, name) is not None and find_spec(name) is None:
            raise UserError(f"tracking.{name}: the package {name} is not installed; pip install {name}, or remove it")
    if spec.budget.gpu_hours is not None and not spec.resources.gpus_per_worker:
        raise UserError(
            f"budget.gpu_hours = {spec.budget.gpu_hours:g}: resources.gpus_per_worker is 0, so no GPU-hour is"
            " ever spent; set it, or use budget.hours"
        )
    if spec.replicas is not None and "seed" in spec.space:
        raise UserError("replicas: seed is in space, so every trial has its own already; keep one of them")
    if spec.against is None:
        return
    if spec.pruner.name != "none":
        raise UserError(
            f"pruner.name = {spec.pruner.name!r}: no pruner can look at two objectives (against = {spec.against});"
            " set it to none, or remove against"
        )
    if spec.replicas is not None:
        raise UserError(f"replicas: with two objectives (against = {spec.against}) no trial is the best; remove one")


def _lists_values(spec: StudySpec) -> bool:
    return spec.sampler.name in ("grid", "brute-force")


def _check_types(spec: StudySpec) -> None:
    grid = _lists_values(spec)
    for key, distribution in spec.space.items():
        if grid and grid_values(distribution) is None:
            raise UserError(
                f"space.{key}.type = {distribution.type!r}: sampler {spec.sampler.name} needs grid, choice or int;"
                " list its values"
            )
        if not grid and distribution.type == "grid":
            raise UserError(
                f"space.{key}.type = 'grid': sampler {spec.sampler.name} does not try every value;"
                " set sampler.name to grid, or the type to choice"
            )


def _check_size(spec: StudySpec, controls: int) -> None:
    if not _lists_values(spec):
        return
    size = math.prod(len(grid_values(distribution) or ()) for distribution in spec.space.values())
    if spec.trials > size + controls:
        raise UserError(
            f"trials = {spec.trials}: the grid has {size} points, and there are {controls} controls;"
            f" set at most {size + controls}"
        )


def checked_control(spec: StudySpec, label: str, given: Mapping[str, Value]) -> Control:
    """A control as the trainer reads its values. Raises UserError unless `spec` can run it."""
    where = f"enqueue {label}"
    first = {key: distribution.ends()[0] for key, distribution in spec.space.items()}
    for key in given:
        _check_swept(key, where)
        if key not in spec.space and spec.sampler.name not in samplers.BLIND:
            raise UserError(
                f"{where}: {key} is not in space, so sampler {spec.sampler.name} would learn from this trial"
                f" without seeing it; add it to space, or use a blind sampler ({', '.join(samplers.BLIND)})"
            )
    config = spec.config({**first, **given}, source=where)
    values = {key: get_dotted(config, key) for key in given}
    for key, value in values.items():
        if key in spec.space and not contains(spec.space[key], value):
            raise UserError(
                f"{where}: {key} = {value} lies outside space, {describe(spec.space[key])}; widen the space"
            )
    missing = [key for key in spec.space if key not in values]
    if missing and spec.sampler.name == "grid":
        raise UserError(
            f"{where}: {missing[0]} is missing; with sampler grid a control names every key of space, add it"
        )
    return Control(label=label, values=values)


def _check_swept(key: str, where: str) -> None:
    check_key(key, where)
    if key.split(".")[0] in _SHARED:
        raise UserError(
            f"{where}: {key} cannot differ between trials, they would no longer be comparable at equal steps;"
            " fix it under trainer"
        )
