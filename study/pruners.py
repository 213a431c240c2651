"""Pruners by name: Optuna's, which see the metric at training steps, and `aime`, which sees single problems."""

from __future__ import annotations

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
    "aime": "AimePruner",
}


def complete(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """All options of pruner `name`. Raises UserError for an unknown name or option.

    `patient` takes a pruner of its own: ``{name: patient, patience: 3, wrapped_pruner: {name: median}}``.
    """
    plugins.check_name("pruner", name, NAMES)
    if name != "patient":
        return plugins.complete_options("pruner", name, _optuna_class(name), options)
    inner = options.get("wrapped_pruner", {"name": "median"})
    if not isinstance(inner, dict) or inner.get("name") in (None, "patient"):
        allowed = ", ".join(known for known in NAMES if known != "patient")
        raise UserError(f"pruner.wrapped_pruner = {inner!r}: give a mapping whose name is one of {allowed}")
    plain = {key: value for key, value in options.items() if key != "wrapped_pruner"}
    completed = plugins.complete_options("pruner", name, _optuna_class(name), plain)
    wrapped = {key: value for key, value in inner.items() if key != "name"}
    return {**completed, "wrapped_pruner": {"name": inner["name"], **complete(inner["name"], wrapped)}}


def sees_problems(name: str, options: dict[str, Any]) -> bool:
    """Whether this pruner, or the one it wraps, needs per-problem results beside the metric."""
    return "aime" in (name, options.get("wrapped_pruner", {}).get("name"))


def make_pruner(name: str, options: dict[str, Any]) -> BasePruner:
    """The pruner with these complete options. Raises UserError when Optuna refuses a value."""
    if "wrapped_pruner" in options:
        inner = dict(options["wrapped_pruner"])
        options = {**options, "wrapped_pruner": make_pruner(inner.pop("name"), inner)}
    return plugins.build("pruner", name, _optuna_class(name), options)


def _optuna_class(name: str) -> type:
    import optuna.pruners

    if name == "aime":
        from study.aime_pruner import AimePruner

        return AimePruner
    return getattr(optuna.pruners, NAMES[name])
