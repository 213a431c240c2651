"""Samplers by name: every one is Optuna's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from study import plugins
from study.space import Choice, Value, grid_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from study.spec import StudySpec

NAMES = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "gp": "GPSampler",
    "cma-es": "CmaEsSampler",
    "qmc": "QMCSampler",
    "nsga-ii": "NSGAIISampler",
    "grid": "GridSampler",
    "brute-force": "BruteForceSampler",
}
SEQUENCES = ("qmc", "grid")
"""Samplers whose points are one sequence with one seed; the storage tells how far it has come."""
BLIND = ("random", "qmc", "grid", "brute-force")
"""Samplers that learn nothing from finished trials."""


def complete(name: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """All options of sampler `name`, with `seed` unless one was given. Raises UserError for what is not known."""
    plugins.check_name("sampler", name, NAMES)
    return plugins.complete_options("sampler", name, _optuna_class(name), {"seed": seed, **options})


def make_sampler(spec: StudySpec, number: int) -> BaseSampler:
    """The sampler that `spec` asks for, seeded for trial `number`.

    Raises:
        UserError: Optuna refuses an option.
    """
    name, options = spec.sampler.name, dict(spec.sampler.options)
    if name not in SEQUENCES and options.get("seed") is not None:
        options["seed"] = int(np.random.SeedSequence((options["seed"], number)).generate_state(1)[0])
    if name == "brute-force":
        return plugins.build("sampler", name, _quiet(_optuna_class(name)), options)
    if name == "grid":
        space = {key: grid_values(distribution) for key, distribution in spec.space.items()}
        return plugins.build("sampler", name, _quiet(_optuna_class(name)), {"search_space": space, **options})
    return plugins.build("sampler", name, _optuna_class(name), options)


def distributions(spec: StudySpec) -> dict[str, BaseDistribution]:
    """What Optuna is told of each key of the space: its distribution, and what only controls have beside a grid."""
    found = {}
    for key, each in spec.space.items():
        if isinstance(each, Choice):
            each = each.model_copy(update={"values": (*each.values, *off_grid(spec, key))})
        found[key] = each.optuna()
    return found


def off_grid(spec: StudySpec, key: str) -> tuple[Value, ...]:
    """Values of `key` that controls have and its list does not. Sampler grid gives those of the list alone, and learns
    nothing from others, so DAPO needs no row of its own beside a grid of epsilon_f."""
    listed = spec.space[key]
    if spec.sampler.name != "grid" or not isinstance(listed, Choice):
        return ()
    given = [control.values[key] for control in spec.enqueue if key in control.values]
    return tuple(dict.fromkeys(value for value in given if value not in listed.values))


def _optuna_class(name: str) -> type:
    import optuna.samplers

    return getattr(optuna.samplers, NAMES[name])


def _quiet(sampler: type) -> type:
    class Quiet(sampler):
        """Samplers of finite spaces end a study with `Study.stop`, which raises outside `Study.optimize` (optuna issue
        4121), and look for a grid point in enqueued trials, which have none. The cap on trials ends our studies."""

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            pass

    return Quiet
