"""The best trial against the controls of the study's file, in words: by how much, and with what error."""

from __future__ import annotations

from study.paired import common, paired
from study.results import StudyResults, TrialResult


def against_controls(results: StudyResults) -> list[str]:
    """A line for each COMPLETE control, the best trial minus it, see `pairs`; none while no trial is COMPLETE."""
    return [_by_problem(results, trial, control) for trial, control in pairs(results)]


def pairs(results: StudyResults) -> list[tuple[TrialResult, TrialResult]]:
    """The best trial with every other COMPLETE control; the best sampled trial with a control that is the best."""
    if not results.evidence:
        return []
    numbered = {trial.number: trial for trial in results.trials}
    ranked = [numbered[each.number] for each in results.evidence]
    found = [(ranked[0], each) for each in results.trials if each in ranked[1:] and each.control]
    sampled = next((each for each in ranked if not each.control), None)
    if sampled is not None and ranked[0].control:
        found.insert(0, (sampled, ranked[0]))
    return found


def _by_problem(results: StudyResults, trial: TrialResult, control: TrialResult) -> str:
    """avg@k paired by problem on each evaluation set, at the last step that both have."""
    said = []
    for each in results.spec.evaluation_config().sets:
        found = common(results, each.name, [trial.number, control.number])
        if found is None or len({len(score.solved) for score in found[1].values()}) > 1:
            continue
        gap = paired(found[1][trial.number], found[1][control.number])
        spread = f" ±{gap.error:.3f} on {each.name}" if gap.error else f" on {each.name} ({gap.counts})"
        said.append(f"{gap.difference:+.3f}{spread}")
    measured = "" if results.spec.metric == "avg@k" else " avg@k"
    return f"{_head(results, trial, control)}:{measured} {', '.join(said) or 'evaluated on no problems in common'}"


def _head(results: StudyResults, trial: TrialResult, control: TrialResult) -> str:
    """Against whom, and who where that is not the best trial."""
    best = results.best
    against = f"gainst {control.control} (trial {control.number})"
    return f"A{against}" if best is not None and trial.number == best.number else f"Trial {trial.number} a{against}"
