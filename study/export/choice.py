"""Which trials of a study are exported."""

from __future__ import annotations

from study.against import mean_lengths
from study.results import StudyResults, TrialResult
from trainer.errors import UserError


def choose_trials(
    results: StudyResults, *, number: int | None = None, top: int | None = None, pareto: bool = False
) -> list[TrialResult]:
    """The best configuration's trial, or trial `number`, or the `top` best, or those of the Pareto front, best first.

    Configurations are ranked as the study ranks them, see `study.evidence.evidence`. A configuration's own trial stands
    for it, not those that confirm it.

    Raises:
        UserError: there is no such trial, or more than one way to choose was given.
    """
    given = [
        name for name, is_given in (("--trial", number is not None), ("--top", top is not None), ("--pareto", pareto))
        if is_given
    ]  # fmt: skip
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} each choose trials; give one of them")
    if number is not None:
        return [_numbered(results, number)]
    numbered = {trial.number: trial for trial in results.trials}
    ranked = [numbered[each.number] for each in results.evidence]
    if not ranked:
        states = ", ".join(sorted({trial.state for trial in results.trials})) or "no trial yet"
        wait = "wait for one, or " if results.ended < results.planned else ""
        raise UserError(f"{results.directory}: no trial is COMPLETE ({states}); {wait}name a trial with --trial N")
    if top is not None:
        if not 1 <= top <= len(ranked):
            count = f"{len(ranked)} COMPLETE configurations"
            raise UserError(f"--top {top}: {results.directory} has {count}; allowed: 1 to {len(ranked)}")
        return ranked[:top]
    return _pareto_front(results, ranked) if pareto else ranked[:1]


def _numbered(results: StudyResults, number: int) -> TrialResult:
    there = [trial for trial in results.trials if (trial.directory / "config.yaml").exists()]
    found = next((trial for trial in there if trial.number == number), None)
    if found is None:
        numbers = [trial.number for trial in there]
        span = f"{min(numbers)} to {max(numbers)}" if numbers else "none yet"
        raise UserError(f"--trial {number}: {results.directory} has no such trial; allowed: {span}")
    return found


def _pareto_front(results: StudyResults, ranked: list[TrialResult]) -> list[TrialResult]:
    """Trials that no other beats in accuracy at the same mean response length or less, best first. Both are those over
    fresh seeds where there are such, since the run that was chosen for being high says less."""
    scores = ((trial.number, trial.newest(results.spec.selecting.name)) for trial in ranked)
    lengths = {number: score.mean_length for number, score in scores if score is not None}
    lengths |= {number: over_seeds.mean for number, over_seeds in mean_lengths(results).items()}
    worth = {each.number: each.worth for each in results.evidence}
    front, shortest = [], float("inf")
    known = (trial for trial in ranked if trial.number in lengths)
    for trial in sorted(known, key=lambda each: (-worth[each.number], lengths[each.number])):
        if lengths[trial.number] < shortest:
            front.append(trial)
            shortest = lengths[trial.number]
    return front
