"""The user attributes of a trial in Optuna's storage, by which a driver to come and all readers know of it.

Studies that exist have them under these texts, so a text that would be another today stays as it is.
"""

from __future__ import annotations

LABEL = "control"
"""Under which name it was enqueued, by the study's file or later."""
BESIDE = "fixed"
"""Values of trainer keys that the space does not have: ``{key: value}``. A confirmation has its seed here."""
CONFIRMS = "confirms"
"""The number of the trial whose configuration it trains with another seed."""
STARTING = "starting"
"""Whether it waits for room or loads its model, and has told nothing since it was (re)started."""
DEATHS = "deaths"
"""How often a process of it died."""
LENGTH = "length"
"""In a study with two objectives: the mean response length at the last reported step."""
PRUNED_AT = "pruned_at"
"""The training step at which it was stopped."""
STOP_REASON = "stop_reason"
"""Why it was stopped, in a line, when it was not the pruner."""
PRUNER_REASON = "pruner"
"""What the pruner `aime` decided last, in a line with its numbers."""
FAIL_REASON = "fail_reason"
"""Why it is FAIL, in a line."""
USAGE = "usage"
"""``{"seconds": of training, "gpu_hours": over all its GPUs, "tokens": sampled}``."""


def solved(step: int) -> str:
    """The results at training step `step`: ``{"samples": k, "solved": [0..k per problem]}``."""
    return f"solved/{step}"
