"""The collapse rule: stop a run whose policy runs away while its accuracy falls.

The paper's signature of a collapse (arXiv 2603.19835) is both at once: the policy KL rises and AIME accuracy falls.
Either alone is no reason. DAPO's policy KL rises to about five times its early level while accuracy hardly moves
(Figures 1 and 5), and accuracy goes down by chance between two evaluations. This is not pruning: the run is compared
with its own past only, so it needs no other trial.

It acts, so it waits for accuracy, errors and all, at evaluations. `dashboards/collapse_signs.py` only warns a reader,
and early: it looks at single steps for the other signs of Figure 2 and needs no evaluation, so its factors are its own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from pydantic import Field

from trainer.config import Frozen
from trainer.digits import decimal
from trainer.records import SetScore


class CollapseRule(Frozen):
    """When a run counts as collapsed."""

    policy_kl_factor: float = Field(default=5, gt=1)
    """Policy KL since the last evaluation (median) over the median of its size from the run's start to its best
    evaluation, to the first after the base model's where none is better than that."""
    accuracy_drop: float = Field(default=0.1, gt=0, lt=1)
    """Accuracy (avg@k, 0..1) lost since the best evaluation."""
    deviations: float = Field(default=3, ge=0)
    """The drop must also exceed this many of its own sampling errors."""
    patience: int = Field(default=2, ge=1)
    """Evaluations in a row, up to now, at which accuracy has fallen that far."""


def collapse_reason(
    rule: CollapseRule, policy_kl: Iterable[tuple[int, float | None]], evaluations: Sequence[tuple[int, SetScore]]
) -> str | None:
    """Why the run has collapsed, in one line, or None.

    Args:
        policy_kl: (training step, policy KL in nats per token), None or not finite where it was not a number.
        evaluations: (step, score) of the set that selects, ascending; the last is the one just made.
    """
    if len(evaluations) <= rule.patience:
        return None
    recent = evaluations[-rule.patience :]
    best_step, best = max(evaluations[: -rule.patience], key=lambda each: each[1].accuracy)
    for _, score in recent:
        drop = best.accuracy - score.accuracy
        # Errors of two independent evaluations. One response per problem has no error, then the drop alone decides.
        noise = math.hypot(best.sampling_error or 0.0, score.sampling_error or 0.0)
        if drop < rule.accuracy_drop or drop < rule.deviations * noise:
            return None
    known = [(step, value) for step, value in policy_kl if step > 0 and value is not None and math.isfinite(value)]
    before = [value for step, value in known if step <= (best_step or evaluations[1][0])]
    now = [value for step, value in known if evaluations[-2][0] < step <= evaluations[-1][0]]
    if not before or not now:
        return None
    # An estimate, which scatters around 0 in a quiet run: its own median may be next to nothing, or less.
    usual, present = statistics.median(map(abs, before)), statistics.median(now)
    if present <= 0 or present < rule.policy_kl_factor * usual:
        return None
    return (
        f"collapsed: {evaluations[-1][1].name} fell from {decimal(best.accuracy)} at step {best_step} to"
        f" {decimal(recent[-1][1].accuracy)} while policy KL rose from {usual:.2g} to {present:.2g}"
    )
