"""What may be said of the best trial: what its seeds are, that all trials tie, that it is partly luck, or that the
control it was to be compared with has failed."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from study.against import against_controls, mean_lengths, seed_means_reported
from study.controls import deciding, is_dapo, joins_controls
from study.directory import typed
from study.evidence import SeedMean, highest_of
from study.metric import metric_value
from study.mistakes import flow
from study.results import ENDED, StudyResults, TrialResult
from study.seeds import seeds_against_settings
from study.tables import chosen_among, counted, named, one_line
from trainer.digits import decimal
from trainer.records import SetScore

NEAR_CEILING = 0.9
"""Accuracy above which it is the problems that cannot tell trials apart."""
HARDER = "evaluate on harder problems"


def verdict(results: StudyResults) -> list[str]:
    """The best trial, how sure that is and what it gains on the controls, line by line.

    Nothing before a first trial is COMPLETE.
    """
    best, found = results.best, results.evidence
    if best is None:
        return []
    means, tied = seed_means(results), tie(results)
    if tied is not None and not means:
        return [tied]
    if results.spec.against:
        also = equals(results, best)
        how = f"{also}, and the shortest of them" if also else " alone"
        means.append(f"By {results.metric_name}{how}; what is best for its length too: fipo export --pareto")
    elif not found[0].tested:
        means.append(_warning(results, best))
    elif (means_compared := highest_of(found)) > 0:
        lucky = f"{named(best)} has the highest of {means_compared} means over fresh seeds"
        means.append(f"{lucky[0].upper()}{lucky[1:]}, so a little of that is luck again")
    said = seeds_against_settings(found)
    return [
        f"Best: {one_line(results, best)}" if tied is None else tied,
        *below_base(results),
        *means,
        *under_way(results),
        *([f"The {said}"] if said else []),
        *passed_over(results),
        *against_controls(results),
    ]


def below_base(results: StudyResults) -> list[str]:
    """A line where even the best trial ended below its base model, by avg@k on the set that selects."""
    best = results.best
    scores = best.scores(results.spec.selecting.name) if best is not None else {}
    if 0 not in scores or (last := scores[max(scores)].accuracy) >= scores[0].accuracy:
        return []
    return [
        f"Even the best ended below the base model: {decimal(last)} against {decimal(scores[0].accuracy)}; training"
        " makes it worse: lower the learning rate, or narrow the space"
    ]


def failed_controls(results: StudyResults) -> list[str]:
    """A line for each control that has failed and has no other in its place, with how it gets one."""

    def point(values: Mapping[str, Any]) -> object:  # not the config, which may be what it failed for
        return is_dapo(results.spec, values), {key: values[key] for key in deciding(results.spec, values, values)}

    controls = [(trial, trial.control, trial.settings) for trial in results.trials if trial.control is not None]
    there = [point(values) for trial, _, values in controls if trial.state != "FAIL"]
    lines = []
    for trial, name, values in controls:
        if trial.state != "FAIL" or point(values) in there:
            continue
        how = "launch the study anew"
        if joins_controls(results.spec, values):
            words = shlex.join([*(f"{key}={flow(value)}" for key, value in values.items()), "--label", name])
            how = f"{typed('enqueue', results.directory)} {words}"
        lines.append(
            f"{named(trial)} has failed, and is not tried again: nothing will be compared with {name}; where you need"
            f" it: {how}"
        )
    return lines


def passed_over(results: StudyResults) -> list[str]:
    """A line where configurations did as well by a single run as one that was confirmed, and are not to be: at a tie
    `replicas.top` takes the earlier."""
    found, controls = results.evidence, {trial.number for trial in results.trials if trial.control}
    sampled = [each for each in found if each.number not in controls]
    least = min((each.first for each in sampled if each.tested), default=math.inf)
    left = sorted(each.number for each in sampled if not each.tested and each.first >= least)
    if not left or results.spec.replicas is None or results.ended < results.planned:
        return []
    top = sum(each.first >= least for each in sampled)
    which = f"Trial {left[0]}" if len(left) == 1 else f"Trials {', '.join(map(str, left))}"
    return [
        f"{which} did as well by a single run as a configuration that was confirmed, and"
        f" {'was' if len(left) == 1 else 'were'} not trained again:"
        f" {typed('set', results.directory)} replicas.top={top}{_resumed(results)}"
    ]


def under_way(results: StudyResults) -> list[str]:
    """A line where some of the confirmations have ended and others not: until then fewer seeds rank than will."""
    ended = sum(trial.confirms is not None and trial.state in ENDED for trial in results.trials)
    planned = results.planned - results.searching
    if not 0 < ended < planned:
        return []
    have = "has" if ended == 1 else "have"
    return [f"{ended} of {counted(planned, 'confirmation')} {have} ended: which is the best may still change"]


def seed_means(results: StudyResults) -> list[str]:
    """The mean over fresh seeds of each confirmed configuration with its error, best first, controls among them.

    Seeds that were lost are counted: the mean of those that survived flatters.
    """
    trials = {trial.number: trial for trial in results.trials}
    reported, lengths = seed_means_reported(results), mean_lengths(results)
    lines = []
    for each in results.evidence:
        if each.tested:
            mean = str(SeedMean.of(each.fresh)) if each.fresh else "not known"
            lines.append(
                f"Over {each.seeds}: {results.metric_name} {mean} of {named(trials[each.number])}"
                + (f", length {lengths[each.number].mean:.1f}" if each.number in lengths else "")
                + _reported(results, reported.get(each.number, {}))
            )
    return lines


def _reported(results: StudyResults, means: Mapping[str, SeedMean]) -> str:
    """Its `means` over these seeds on the sets that chose nothing: ``; only reported: aime_2025/avg@32 0.30 ±0.01``."""
    samples = {each.name: each.samples for each in results.spec.evaluation_config().sets}
    said = [f"{name}/avg@{samples[name]} {mean}" for name, mean in means.items()]
    return f"; only reported: {', '.join(said)}" if said else ""


def tie(results: StudyResults) -> str | None:
    """That all COMPLETE trials solved every problem equally often at their last step, those that confirm others too;
    None where one did not, and for a single configuration.

    Nor where they differ in the length that the study minimizes beside it.
    """
    complete = [trial for trial in results.trials if trial.state == "COMPLETE"]
    if len(results.evidence) < 2:
        return None
    scores = [score for trial in complete if (score := trial.newest(results.spec.selecting.name)) is not None]
    if len(scores) < len(complete) or len({metric_value(score, results.spec.metric) for score in scores}) != 1:
        return None
    if results.spec.against and len({score.mean_length for score in scores}) > 1:
        return None
    return tied(scores, who=f"All {len(scores)} COMPLETE trials", where="at the last step")


def tied(scores: Sequence[SetScore], *, who: str, where: str) -> str | None:
    """The sentence that `who` (for example "All trials") solved every problem equally often `where` they are compared
    (for example "at step 9"), and what to do; None for fewer than two scores, or where one differs."""
    if len(scores) < 2 or len({(score.samples, score.solved) for score in scores}) != 1:
        return None
    remedy = HARDER if scores[0].accuracy > NEAR_CEILING else "train longer or raise the learning rate"
    alike = len({score.mean_length for score in scores}) == 1
    seen = "what was swept changed nothing that this evaluation can see" if alike else "only their lengths differ"
    return f"{who} solved every problem equally often {where}: {seen}; {remedy}"


def _warning(results: StudyResults, best: TrialResult) -> str:
    score = best.newest(results.spec.selecting.name)
    problems = f" on {counted(len(score.solved), 'problem')}" if score is not None else ""
    if len(results.evidence) == 1:
        return "No other trial has ended COMPLETE, so it is not known to be better than any"
    among = f"{chosen_among(results)}{problems}"
    runs, also = {each.number: each.first for each in results.evidence}, equals(results, best)
    if runs[best.number] < max(runs.values()):  # others were trained again, and did worse or were lost
        said, open_ = f"It is the best of {among} by a single run{also}", "how sure that is"
    else:
        said, open_ = f"It is the highest of {among}{also}, so part of it is luck", "how much"
    return f"{said}; fresh seeds tell {open_}{how_to_confirm(results)}"


def how_to_confirm(results: StudyResults) -> str:
    """The command, after a colon; nothing where confirmations are planned, nor with two objectives, which have none."""
    if results.spec.replicas is not None or results.spec.against:
        return ""
    return f": {typed('set', results.directory)} replicas.seeds=3 replicas.top=3{_resumed(results)}"


def _resumed(results: StudyResults) -> str:
    return f", then {typed('resume', results.directory)}" if results.driver is None else ""


def equals(results: StudyResults, best: TrialResult) -> str:
    """Who else has the same metric in a single run and no fresh seed that tells more: ``, with trial 3``, ``, with 4
    others``, or nothing."""
    runs = {each.number: each.first for each in results.evidence if not each.tested or each.number == best.number}
    others = [number for number, run in runs.items() if run == runs[best.number] and number != best.number]
    return "" if not others else f", with trial {others[0]}" if len(others) == 1 else f", with {len(others)} others"
