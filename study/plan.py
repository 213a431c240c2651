"""What a checked study is going to do, in one line."""

from __future__ import annotations

from collections.abc import Iterator

from study.budget import devices
from study.spec import StudySpec
from study.tables import counted


def plan(spec: StudySpec) -> str:
    """Trials, what they sweep and maximize, what they take, what confirms them and what ends them."""
    used = devices(spec.resources)
    each = f"{counted(used.count, used.name)} a trial, {spec.concurrency} at a time"
    first = f"{counted(spec.trials, 'trial')} over {', '.join(spec.space)}, {aim(spec)}"
    return "; ".join([first, each, *_confirmations(spec), *_ends(spec)])


def aim(spec: StudySpec) -> str:
    """``maximizing aime_2024/avg@32``, or that and minimizing its length."""
    return f"maximizing {spec.metric_name()}" + (" and minimizing its length" if spec.against else "")


def _confirmations(spec: StudySpec) -> Iterator[str]:
    if spec.replicas is None:
        return
    sampled, controls = spec.trials - len(spec.enqueue), len(spec.enqueue)
    configurations = spec.replicas.confirmed(sampled, controls)
    best = [f"the best {configurations - controls}"] if configurations > controls else []
    of = " and ".join([*best, *([counted(controls, "control")] if controls else [])])
    yield f"then up to {configurations * spec.replicas.seeds} confirmations, {spec.replicas.seeds} seeds of {of}"


def _ends(spec: StudySpec) -> Iterator[str]:
    budget = spec.budget
    limits = [
        *([f"{budget.gpu_hours:,.10g} GPU-hours"] if budget.gpu_hours is not None else []),
        *([f"{counted(budget.hours, 'hour')}"] if budget.hours is not None else []),
        *([f"a trial of {budget.accuracy:g}"] if budget.accuracy is not None else []),
    ]
    if limits:
        yield f"stops after {' or '.join(limits)}"
