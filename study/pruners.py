"""Pruners by name: Optuna's, which see the metric at training steps, and our own, which may see single problems."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from study import plugins
from trainer.errors import UserError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

NAMES = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "hyperband": "HyperbandPruner",
    "successive-halving": "SuccessiveHalvingPruner",
    "threshold": "ThresholdPruner",
    "patient": "PatientPruner",
    "wilcoxon": "WilcoxonPruner",
    "none": "NopPruner",
}
"""Optuna's, with the class of each."""
OWN = {"aime": ("study.aime_pruner", "AimePruner")}
"""Ours, with the module and class of each."""
SEE_PROBLEMS = ("aime",)
"""Those of ours that need per-problem results beside the metric."""


def complete(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """All options of pruner `name`. Raises UserError for an unknown name or option.

    `patient` takes a pruner of its own: ``{name: patient, patience: 3, wrapped_pruner: {name: median}}``.
    """
    known = (*NAMES, *OWN)
    plugins.check_name("pruner", name, known)
    if name != "patient":
        return plugins.complete_options("pruner", name, pruner_class(name), options)
    inner = options.get("wrapped_pruner", {"name": "median"})
    if not isinstance(inner, dict) or inner.get("name") in (None, "patient"):
        allowed = ", ".join(each for each in known if each != "patient")
        raise UserError(f"pruner.wrapped_pruner = {inner!r}: give a mapping whose name is one of {allowed}")
    plain = {key: value for key, value in options.items() if key != "wrapped_pruner"}
    completed = plugins.complete_options("pruner", name, pruner_class(name), plain)
    wrapped = {key: value for key, value in inner.items() if key != "name"}
    return {**completed, "wrapped_pruner": {"name": inner["name"], **complete(inner["name"], wrapped)}}


def sees_problems(name: str, options: dict[str, Any]) -> str | None:
    """The one of `SEE_PROBLEMS` that this pruner is or wraps; None where it is none."""
    inner = options.get("wrapped_pruner", {}).get("name")
    return next((each for each in (name, inner) if each in SEE_PROBLEMS), None)


def make_pruner(name: str, options: dict[str, Any]) -> BasePruner:
    """The pruner with these complete options. Raises UserError when Optuna refuses a value."""
    if "wrapped_pruner" in options:
        inner = dict(options["wrapped_pruner"])
        options = {**options, "wrapped_pruner": make_pruner(inner.pop("name"), inner)}
    return plugins.build("pruner", name, pruner_class(name), options)


def pruner_class(name: str) -> type[BasePruner]:
    """The class of a known pruner, imported here: Optuna takes its time."""
    module, cls = OWN[name] if name in OWN else ("optuna.pruners", NAMES[name])
    return getattr(import_module(module), cls)
