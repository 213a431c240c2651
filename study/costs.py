"""What a study has taken, and what pruning and racing spared it."""

from __future__ import annotations

from study.budget import devices
from study.results import RAN, StudyResults
from trainer.digits import per_cent


def costs(results: StudyResults) -> str | None:
    """What all trials took so far and what pruning spared, in one line; None before the first step."""
    taken = spent(results)
    if not taken["seconds"]:
        return None
    used = devices(results.spec.resources)
    budget = results.spec.budget.gpu_hours if used.name == "GPU" else None
    text = f"took {used.hours(taken['seconds']):.3g}" + (f" of {budget:,.10g}" if budget is not None else "")
    text += f" {used.name}-hours, {taken['tokens']:,} tokens sampled in training"
    if (spared := spared_by_pruning(results)) is not None:
        text += f"; pruning spared {per_cent(spared)} % of the steps of the trials that the pruner judged"
    if (drawn := drawn_by_racing(results)) is not None:
        text += f"; racing evaluations drew {drawn[0]:,} of the {drawn[1]:,} responses of whole ones"
        text += f" ({per_cent(1 - drawn[0] / drawn[1])} % spared)" if drawn[1] else ""
    return text


def spared_by_pruning(results: StudyResults) -> float | None:
    """Share of the steps of complete and pruned trials that were not trained; None before a first one is, and where
    there is no pruner.

    Trials that collapsed or were stopped by hand do not count, for it was not the pruner that spared their steps, nor
    those that confirm others, which it never sees.
    """
    if results.spec.pruner.name == "none":
        return None
    total = results.spec.steps
    ran = (trial for trial in results.trials if trial.state in RAN and trial.confirms is None)
    finished = [trial for trial in ran if trial.stop_reason is None]
    spared = sum(total - trial.pruned_at for trial in finished if trial.pruned_at is not None)
    return spared / (total * len(finished)) if finished else None


def drawn_by_racing(results: StudyResults) -> tuple[int, int] | None:
    """Responses that the evaluations of the racing set drew, and that they would have drawn whole; None without one."""
    racing = results.spec.selecting
    if racing.first_look is None:
        return None
    scores = [score for trial in results.trials for score in trial.scores(racing.name).values()]
    drawn = sum(score.samples * len(score.solved) for score in scores)
    return drawn, sum(racing.samples * len(score.solved) for score in scores)


def spent(results: StudyResults) -> dict[str, float | int]:
    """Seconds of training, GPU-hours and tokens of all trials; of those that run, up to their newest step."""
    return {
        name: sum(getattr(trial.usage, name) for trial in results.trials) for name in ("seconds", "gpu_hours", "tokens")
    }
