"""Which trials of a study are exported."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from study.against import mean_lengths
from study.directory import typed
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
        states = ", ".join(sorted({results.state(trial) for trial in results.trials})) or "no trial yet"
        driven = "wait for one" if results.driver is not None else f"go on with {typed('resume', results.directory)}"
        wait = f"{driven}, or " if results.ended < results.planned else ""
        raise UserError(f"{results.directory}: no trial is COMPLETE ({states}); {wait}name a trial with --trial N")
    if top is not None:
        if not 1 <= top <= len(ranked):
            count = f"{len(ranked)} COMPLETE configurations"
            raise UserError(f"--top {top}: {results.directory} has {count}; allowed: 1 to {len(ranked)}")
        return ranked[:top]
    return _pareto_front(results, numbered) if pareto else ranked[:1]


def _numbered(results: StudyResults, number: int) -> TrialResult:
    there = [trial for trial in results.trials if (trial.directory / "config.yaml").exists()]
    found = next((trial for trial in there if trial.number == number), None)
    if found is None:
        numbers = [trial.number for trial in there]
        span = f"{min(numbers)} to {max(numbers)}" if numbers else "none yet"
        raise UserError(f"--trial {number}: {results.directory} has no such trial; allowed: {span}")
    return found


def _pareto_front(results: StudyResults, numbered: Mapping[int, TrialResult]) -> list[TrialResult]:
    """Trials that are shorter, in mean response, than all that are ranked before them, best first; the shortest of
    equals. So fresh seeds count where there are such, for both: a run that was chosen for being high says less."""
    scores = ((number, trial.newest(results.spec.selecting.name)) for number, trial in numbered.items())
    lengths = {number: score.mean_length for number, score in scores if score is not None}
    lengths |= {number: over_seeds.mean for number, over_seeds in mean_lengths(results).items()}
    front, shortest = [], math.inf
    for _, equals in itertools.groupby(results.evidence, key=lambda each: (each.tested, each.worth)):
        number = min((each.number for each in equals), key=lambda number: lengths.get(number, math.inf))
        if lengths.get(number, math.inf) < shortest:
            front.append(numbered[number])
            shortest = lengths[number]
    return front
