"""The best trial against the controls of the study's file, in words: by how much, and with what error."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from study.controls import is_dapo
from study.evidence import Number, SeedMean
from study.paired import last_pair
from study.results import StudyResults, TrialResult
from study.seeds import difference
from study.space import few_digits
from study.spec import get_dotted
from trainer.config import INFLUENCE
from trainer.digits import decimal
from trainer.records import SetScore


def against_controls(results: StudyResults, *, of: int | None = None) -> list[str]:
    """A line for each of `pairs`, or those with the trial `of`: over fresh seeds where both were confirmed, else
    problem by problem. Its remark follows.
    """
    lines = []
    for one, control, remark in pairs(results):
        if of in (None, one.number, control.number):
            lines += [_over_seeds(results, one, control, decimal, "") or _by_problem(results, one, control), remark]
    return [line for line in lines if line is not None]


def confounded(results: StudyResults, trial: TrialResult, control: TrialResult) -> str | None:
    """Why their difference is not FIPO's: they differ in swept or given keys that are not FIPO's own too, `clip_high`
    among them, or both are DAPO in a study of FIPO. Else None. Values that are shown alike are no difference: people
    copy what is shown."""
    others = ", ".join(_beside_fipo(results, trial, control))
    who = trial.control or f"trial {trial.number}"
    if _fipo_differs(results, trial, control):
        said = f"{who} and {control.control} differ in {others} too, so this is not the effect of FIPO alone"
        return said if others else None
    if not results.config(control).fipo.is_dapo or is_dapo(results.spec, {}):
        return None
    return f"{who} is DAPO too, so FIPO has no part in this" + (f"; they differ in {others}" if others else "")


def _fipo_differs(results: StudyResults, trial: TrialResult, control: TrialResult) -> bool:
    one, other = (results.config(each).fipo.influence for each in (trial, control))
    return one != other


def _in_fipo_alone(results: StudyResults, trial: TrialResult, control: TrialResult) -> bool:
    return _fipo_differs(results, trial, control) and not _beside_fipo(results, trial, control)


def _beside_fipo(results: StudyResults, trial: TrialResult, control: TrialResult) -> list[str]:
    """What they differ in beside FIPO, with both values."""
    one, other = (results.config(each) for each in (trial, control))
    keys = dict.fromkeys((*results.spec.space, *trial.beside, *control.beside))
    own = {f"fipo.{name}" for name in INFLUENCE}
    shown = {key: [few_digits(get_dotted(each, key)) for each in (one, other)] for key in keys if key not in own}
    return [f"{key} ({mine} and {its})" for key, (mine, its) in shown.items() if mine != its]


def over_seeds(results: StudyResults, *, number: Number = decimal, unit: str = "") -> list[str]:
    """A line for each of `pairs` that were both confirmed with two seeds or more, and its remark.

    Args:
        number: how a fraction is written.
        unit: what stands after it.
    """
    lines = []
    for one, control, remark in pairs(results):
        if (line := _over_seeds(results, one, control, number, unit)) is not None:
            lines += [line, remark]
    return [line for line in lines if line is not None]


class Pair(NamedTuple):
    """Two COMPLETE trials to be compared."""

    trial: TrialResult
    control: TrialResult
    remark: str | None
    """What they differ in beside FIPO, or why it is this trial."""


def pairs(results: StudyResults) -> list[Pair]:
    """The best sampled trial with every COMPLETE control, and a control that is the best with the other controls.

    Where the difference of the best from a control is not FIPO's, the best with another FIPO follows, and the best of
    those that differ from the control in FIPO alone. Last come a DAPO and a FIPO among the controls that differ in
    nothing else.
    """
    if not results.evidence:
        return []
    numbered = {trial.number: trial for trial in results.trials}
    ranked = [numbered[each.number] for each in results.evidence]
    controls = [each for each in results.trials if each.control and each in ranked]
    sampled, found = [each for each in ranked if not each.control], list[Pair]()
    for control in controls if sampled else ():
        remark = confounded(results, sampled[0], control)
        found.append(Pair(sampled[0], control, remark))
        if remark is None:
            continue
        other = next((one for one in sampled if _fipo_differs(results, one, control)), sampled[0])
        alone = next((one for one in sampled if _in_fipo_alone(results, one, control)), None)
        if other not in (sampled[0], alone):
            found.append(Pair(other, control, confounded(results, other, control)))
        if alone is not None:
            why = f"trial {alone.number} is the best of those that differ from {control.control} in FIPO alone"
            found.append(Pair(alone, control, why))
    if (best := ranked[0]).control:
        found += [Pair(best, each, confounded(results, best, each)) for each in controls if each is not best]
    own = [each for each in ranked if each.control and each is not best]
    for pair in itertools.combinations(own, 2):
        if any(results.config(each).fipo.is_dapo for each in pair) and _in_fipo_alone(results, *pair):
            found.append(Pair(*pair, None))
    return found


def _over_seeds(
    results: StudyResults, trial: TrialResult, control: TrialResult, number: Number, unit: str
) -> str | None:
    """What is maximized, and avg@k of the sets that chose nothing: difference of the means over fresh seeds."""
    known = {each.number: each.fresh for each in results.evidence}
    selecting = difference(known[trial.number], known[control.number])
    if selecting is None:
        return None
    said = [selecting.in_words(results.metric_name, number=number, unit=unit)]
    for each in results.spec.evaluation_config().sets[1:]:
        gap = difference(*(_reported(results, one.number, each.name) for one in (trial, control)))
        if gap is not None:
            said.append(gap.in_words(f"{each.name}/avg@{each.samples}", number=number, unit=unit))
    return f"{_names(trial, control)}, over {selecting.seeds} fresh seeds of both, paired: {', '.join(said)}"


def mean_lengths(results: StudyResults) -> dict[int, SeedMean]:
    """Mean response length in tokens of each configuration with fresh seeds, by its trial, over them on the set that
    selects: of the same runs as the mean of the metric."""
    name, found = results.spec.selecting.name, {}
    for each in results.evidence:
        known = {seed: score.mean_length for seed, score in _confirming(results, each.number, name).items()}
        if known:
            found[each.number] = SeedMean.of(known)
    return found


def seed_means_reported(results: StudyResults) -> dict[int, dict[str, SeedMean]]:
    """avg@k of each configuration with fresh seeds, by its trial, over them on each set that chose nothing."""
    names = [each.name for each in results.spec.evaluation_config().sets[1:]]
    found = {}
    for each in results.evidence:
        if each.fresh:
            runs = {name: _reported(results, each.number, name) for name in names}
            found[each.number] = {name: SeedMean.of(known) for name, known in runs.items() if known}
    return found


def _reported(results: StudyResults, number: int, set_name: str) -> dict[int, float]:
    """avg@k at the end of the trials that confirm trial `number`, by training seed."""
    return {seed: score.accuracy for seed, score in _confirming(results, number, set_name).items()}


def _confirming(results: StudyResults, number: int, set_name: str) -> dict[int, SetScore]:
    """Scores at the end of the trials that confirm the configuration of trial `number`, by training seed."""
    confirming = [each for each in results.trials if results.confirmed_by(each) == number and each.value is not None]
    scores = {results.seed(each): each.newest(set_name) for each in confirming}
    return {seed: score for seed, score in scores.items() if score is not None}


def _by_problem(results: StudyResults, trial: TrialResult, control: TrialResult) -> str:
    """avg@k paired by problem on each evaluation set, at the last step that both have."""
    said = []
    for each in results.spec.evaluation_config().sets:
        found = last_pair(results, each.name, trial.number, control.number)
        if found is None:
            continue
        _, gap = found
        spread = f" ±{decimal(gap.error)} on {each.name}" if gap.error else f" on {each.name} ({gap.counts})"
        said.append(f"{decimal(gap.difference, signed=True)}{spread}")
    measured = "" if results.spec.metric == "avg@k" else " avg@k"
    return f"{_names(trial, control)}:{measured} {', '.join(said) or 'evaluated on no problems in common'}"


def _names(trial: TrialResult, control: TrialResult) -> str:
    one, other = (
        f"{each.control} (trial {each.number})" if each.control
        else f"trial {each.number}" + (f" ({each.enqueued})" if each.enqueued else "")
        for each in (trial, control)
    )  # fmt: skip
    return f"{one[0].upper()}{one[1:]} against {other}"
