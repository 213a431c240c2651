"""Reading a spec that a person wrote: everything that can be wrong is found here, before anything is started."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from study import attributes, pruners, samplers
from study.keys import TWINS, check_key, is_whole
from study.mistakes import Mistakes, explained, flow
from study.overrides import apply_set
from study.problem_sets import told_of_files
from study.settings import plugin_mistakes, setting_mistakes
from study.space import Choice, LogUniform, Uniform, Value, contains, describe
from study.spec import Control, Plugin, StudySpec, get_dotted
from study.storage import directions
from trainer.config import TrainerConfig
from trainer.config_file import read_yaml
from trainer.errors import UserError

_CORNERS = 4096
_SHARED = ("evaluation", "steps", "threads")


def load_spec(path: Path, *, sets: Sequence[str] = ()) -> StudySpec:
    """Read, complete and check a study spec; `sets` are ``key=value`` texts that have the last word.

    Raises:
        SpecRefused: all that is wrong, each in one line with the file, the key, the value, what is allowed and what to
            do.
        UserError: no such file, or one of `sets` cannot be used.
    """
    return _complete(_in_form(path, sets), path, files=False)[0]


def load_with_files(path: Path, *, sets: Sequence[str] = ()) -> tuple[StudySpec, list[str]]:
    """As `load_spec`, and read the problem files and look for the model directories that it names, as `prepare` does.

    Returns:
        The spec, and what is allowed in its files and hardly meant, in lines.
    """
    return _complete(_in_form(path, sets), path, files=True)


def _in_form(path: Path, sets: Sequence[str]) -> StudySpec:
    data = read_yaml(path)
    if data and set(data) <= set(TrainerConfig.model_fields):
        raise UserError(f"{path}: this is a trainer config; run it with: fipo train {path}")
    for assignment in sets:
        apply_set(data, assignment)
    mistakes = Mistakes()
    _check_form(data, mistakes)
    mistakes.settle(path)
    return StudySpec.model_validate(data)


def trainer_configs(spec: StudySpec, *, controls: bool = True) -> list[TrainerConfig]:
    """Configs at the corners of the space, and those of the controls. Raises UserError where one is not valid."""
    corners = [spec.config(point) for point in _corners(spec)]
    return corners + [control_config(spec, each.values) for each in spec.enqueue if controls]


def control_config(spec: StudySpec, values: Mapping[str, Value]) -> TrainerConfig:
    """The config of a control with these `values`, the lowest or first of each key that the sampler would give."""
    return spec.config({**_first_point(spec), **values})


def _corners(spec: StudySpec) -> Iterator[dict[str, Value]]:
    """Points of the space: every combination of ends and choices, or one key at a time if too many."""
    ends = {key: distribution.ends() for key, distribution in spec.space.items()}
    if math.prod(map(len, ends.values())) <= _CORNERS:
        yield from (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()))
        return
    first = _first_point(spec)
    yield from ({**first, key: value} for key, values in ends.items() for value in values)


def _first_point(spec: StudySpec) -> dict[str, Value]:
    return {key: distribution.ends()[0] for key, distribution in spec.space.items()}


def _check_form(data: dict[str, Any], mistakes: Mistakes) -> None:
    """Each part of the file by itself, as far as it can be read without the others."""
    found = explained(StudySpec, data)
    mistakes.lines += found.values()
    trainer, space, enqueue = (data.get(key) for key in ("trainer", "space", "enqueue"))
    if isinstance(trainer, dict):
        # What is said of no single key may be mended by what is sampled.
        mistakes.lines += (f"trainer: {line}" for place, line in explained(TrainerConfig, trainer).items() if place)
    for key in space if isinstance(space, dict) else ():
        if not any(place[:2] == ("space", key) for place in found):
            with mistakes:
                _check_swept(str(key), "space")
                if key == "seed":
                    raise UserError(
                        "space.seed: a seed is repeated and not searched for; remove it, and set replicas:"
                        " {seeds: 4, top: null}, which trains every configuration with 4 more and compares their means"
                    )
    for control in enqueue if isinstance(enqueue, list) and not any("enqueue" in place for place in found) else ():
        for key in control["values"]:
            with mistakes:
                _check_swept(key, f"enqueue {control['label']}")
    plugins = {
        kind: Plugin.model_validate(data[kind])
        for kind in ("sampler", "pruner")
        if kind in data and not any(place[0] == kind for place in found)
    }
    with mistakes:
        if sampler := plugins.get("sampler"):
            samplers.complete(sampler.name, sampler.options, seed=0)
    with mistakes:
        if pruner := plugins.get("pruner"):
            pruners.make_pruner(pruner.name, pruners.complete(pruner.name, pruner.options))


def _complete(spec: StudySpec, path: Path, *, files: bool) -> tuple[StudySpec, list[str]]:
    mistakes = Mistakes()
    warnings: list[str] = []
    for key, distribution in spec.space.items():
        if is_whole(key) and isinstance(distribution, Uniform | LogUniform):
            mistakes.lines.append(
                f"space.{key}.type = {distribution.type!r} gives fractions and {key} is a whole number;"
                " set the type to int"
            )
    if "fipo.gamma" in spec.space and "fipo.half_life" in spec.space:
        mistakes.lines.append("space has fipo.gamma and fipo.half_life, which are the same quantity; keep one of them")
    mistakes.settle(path)
    mistakes.lines += _corner_mistakes(spec)
    mistakes.settle(path)
    base = spec.config(_first_point(spec))
    spec = spec.model_copy(update={"trainer": _full_trainer(base, spec), "space": _typed_space(spec)})
    sampler, pruner = spec.sampler, spec.pruner
    sampler = Plugin(name=sampler.name, **samplers.complete(sampler.name, sampler.options, spec.seed))
    pruner = Plugin(name=pruner.name, **pruners.complete(pruner.name, pruner.options))
    spec = spec.model_copy(update={"sampler": sampler, "pruner": pruner})
    mistakes.lines += (*plugin_mistakes(spec), *setting_mistakes(spec, enqueued=len(spec.enqueue)))
    for control in spec.enqueue:
        mistakes.lines += control_mistakes(spec, control.label, control.values)
    if files:
        wrong, warnings = told_of_files(trainer_configs(spec, controls=not mistakes.lines), spec, hub=False)
        mistakes.lines += wrong
    if not mistakes.lines:
        with mistakes:
            _rehearse(spec)
    mistakes.settle(path)
    controls = tuple(_typed_control(spec, control.label, control.values) for control in spec.enqueue)
    return spec.model_copy(update={"enqueue": controls}), warnings


def _corner_mistakes(spec: StudySpec) -> list[str]:
    """What the trainer refuses at the corners of the space, one line for each key."""
    found: dict[tuple[Any, ...], str] = {}
    for point in _corners(spec):
        for place, line in explained(TrainerConfig, spec.trainer_values(point)).items():
            swept = any(key.split(".")[-1] in line for key in point)
            found.setdefault(place, f"{'space' if swept else 'trainer'}: {line}")
    return list(found.values())


def _rehearse(spec: StudySpec) -> None:
    """Two trials without training: some samplers and pruners refuse their options only at work."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what it warns of, it warns of again at work
    sampler, pruner = samplers.make_sampler(spec, 0), pruners.make_pruner(spec.pruner.name, spec.pruner.options)
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), sampler=sampler, pruner=pruner, directions=directions(spec)
    )
    try:
        for _ in range(2):
            trial = study.ask(samplers.distributions(spec))
            for step in (0, 1) if spec.against is None else ():
                if pruners.sees_problems(spec.pruner.name, spec.pruner.options):  # as the bridge records them
                    trial.set_user_attr(attributes.solved(step), {"samples": 1, "solved": [0]})
                trial.report(0.0, step)
                trial.should_prune()
            study.tell(trial, [0.0] * len(study.directions))
    except (ValueError, TypeError, ImportError) as error:
        line = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"sampler {spec.sampler.name} with pruner {spec.pruner.name}: {line}; change that option"
        ) from None


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
    first = _first_point(spec)
    typed: dict[str, Any] = {}
    for key, distribution in spec.space.items():
        if isinstance(distribution, Choice):
            values = [get_dotted(spec.config({**first, key: value}), key) for value in distribution.values]
            distribution = Choice(type=distribution.type, values=tuple(values))
        typed[key] = distribution
    return typed


def control_mistakes(spec: StudySpec, label: str, given: Mapping[str, Value]) -> list[str]:
    """Why `spec` cannot run a control with these values; nothing when it can."""
    where, mistakes, unseen = f"enqueue {label}", Mistakes(), list[str]()
    for key in given:
        with mistakes:
            _check_swept(key, where)
            if TWINS.get(key) in spec.space:
                raise UserError(
                    f"{where}: {key} is the same quantity as {TWINS[key]}, which space has; give it as that,"
                    " gamma = 2^(-1/half_life)"
                )
            if key not in spec.space:
                unseen.append(key)
    if unseen and spec.sampler.name not in samplers.BLIND:
        one = len(unseen) == 1
        mistakes.lines.append(
            f"{where}: {', '.join(unseen)} {'is' if one else 'are'} not in space, so sampler {spec.sampler.name} would"
            f" learn from this trial without seeing {'it' if one else 'them'}; add {'it' if one else 'them'} to space,"
            f" or use a blind sampler ({', '.join(samplers.BLIND)})"
        )
    if mistakes.lines:
        return mistakes.lines
    point = {**_first_point(spec), **given}
    if refused := explained(TrainerConfig, spec.trainer_values(point)):
        return [f"{where}: {line}" for line in refused.values()]
    config = spec.config(point)
    for key in given:
        value = get_dotted(config, key)
        inside = key not in spec.space or contains(spec.space[key], value)
        if not inside and not {value, given[key]} & {*samplers.off_grid(spec, key)}:
            mistakes.lines.append(
                f"{where}: {key} = {flow(value)} lies outside space, {describe(spec.space[key])};"
                " choose a value within, or widen the space, which takes a new study once this one has begun"
            )
    missing = [key for key in spec.space if key not in given]
    if missing and spec.sampler.name == "grid":
        mistakes.lines.append(
            f"{where}: {missing[0]} is missing; with sampler grid a control names every key of space, add it"
        )
    return mistakes.lines


def checked_control(spec: StudySpec, label: str, given: Mapping[str, Value]) -> Control:
    """A control as the trainer reads its values. Raises UserError unless `spec` can run it."""
    for line in control_mistakes(spec, label, given):
        raise UserError(line)
    return _typed_control(spec, label, given)


def _typed_control(spec: StudySpec, label: str, given: Mapping[str, Value]) -> Control:
    config = control_config(spec, given)
    return Control(label=label, values={key: get_dotted(config, key) for key in given})


def _check_swept(key: str, where: str) -> None:
    check_key(key, where)
    if key.split(".")[0] in _SHARED:
        raise UserError(
            f"{where}: {key} cannot differ between trials, they would no longer be comparable at equal steps;"
            " fix it under trainer"
        )
