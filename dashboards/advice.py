"""What a person would do next with a study, as sentences that lead to a page. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from dashboards import differences, frames, text
from study.against import confounded
from study.backup import how_to_go_on
from study.paired import FEWEST, last_pair
from study.seeds import seed_test
from study.verdict import HARDER, NEAR_CEILING, below_base, failed_controls, how_to_confirm, passed_over, tie, under_way
from trainer.errors import UserError

if TYPE_CHECKING:
    from study.results import StudyResults, TrialResult

BEST = 6
"""Trials among which a reader would choose."""
EDGE = 0.05
"""A best value within this share of its range's end may lie beyond it."""


@dataclass(frozen=True)
class Advice:
    """One sentence and, where a page has more on it, which."""

    sentence: str
    page: str | None = None
    """URL path of a page."""
    query: dict[str, str | list[str]] = field(default_factory=dict)
    """What the page opens with."""


def advice(results: StudyResults, trials: pl.DataFrame, evaluations: pl.DataFrame) -> list[Advice]:
    """At most one sentence of each kind, the most pressing first; empty while there is nothing to say."""
    spread = _spread(trials, evaluations)
    alike = _alike(results, spread)
    lines = (*how_to_go_on(results), *failed_controls(results))  # which end in a command
    found = [*map(Advice, lines), _failures(trials)]
    if _searched(results):
        found += [
            *(Advice(f"{line}.", "training") for line in below_base(results)),
            alike if alike or spread is None else _one_seed(results),
            *(Advice(f"{line}.") for line in under_way(results)),
            *map(Advice, passed_over(results)),  # which end in a command
            _against_control(results, trials),
            _few_problems(results),
            _edges(results) if alike is None else None,
        ]
    return [each for each in found if each is not None]


def _searched(results: StudyResults) -> bool:
    """Whether more than its controls have run, which come first."""
    sampled = (trial for trial in results.trials if trial.control is None)
    return results.ended >= results.planned or any(trial.state in ("COMPLETE", "PRUNED") for trial in sampled)


def _failures(trials: pl.DataFrame) -> Advice | None:
    failed = trials.filter(pl.col("state") == "FAIL")
    if failed.is_empty():
        return None
    which = "1 trial" if failed.height == 1 else f"{failed.height} trials"
    reason = failed["fail_reason"].drop_nulls()
    return Advice(f"{which} failed" + (f", the first with: {reason[0]}" if reason.len() else "."))


def _spread(trials: pl.DataFrame, evaluations: pl.DataFrame) -> differences.Spread | None:
    """Over the complete trials at their end, confirmations and repetitions left out: they are no other settings."""
    sets = frames.sets(evaluations)
    if not sets:
        return None
    summary = frames.summary(trials, evaluations, set_name=sets[0])
    return differences.spread(summary.filter(pl.col("state") == "COMPLETE", frames.CONFIGURATION))


def _alike(results: StudyResults, spread: differences.Spread | None) -> Advice | None:
    """That no complete trial is known to differ from another, so none is known to be better."""
    if (line := tie(results)) is not None:
        return Advice(f"{line}.", "hyperparameters")
    if spread is None or spread.beyond_sampling:
        return None
    confirmed = any(each.confirms is not None for each in results.trials)
    left = " or ".join(word for word, there in (("confirm", confirmed), ("repeat", results.repeats)) if there)
    again = f", those that {left} others left out," if left else ""
    score = results.best.newest(results.spec.selecting.name) if results.best is not None else None
    near = score is not None and score.accuracy > NEAR_CEILING
    remedy = HARDER if near else "draw more responses per problem, or spread the search wider,"
    return Advice(
        f"The {spread.trials} complete trials{again} do not differ beyond the sampling error of avg@k"
        f" ({text.probability(spread.p)}): {remedy} before choosing.", "hyperparameters",
    )  # fmt: skip


def _one_seed(results: StudyResults) -> Advice | None:
    planned = results.spec.replicas is not None and results.ended < results.planned
    if planned or any(each.tested for each in results.evidence):
        return None
    return Advice(
        "Every trial ran with one seed: run the best settings again with fresh ones before you rely on them"
        f"{how_to_confirm(results) or '.'}"
    )


def _against_control(results: StudyResults, trials: pl.DataFrame) -> Advice | None:
    """The best trial against the first complete control, on the last set that both were evaluated on; against one that
    differs from it in FIPO alone where there is such a control."""
    best = results.best
    controls = [each for each in results.trials if each.state == "COMPLETE" and each.control]
    if best is None or not controls or not best.evaluations:
        return None
    control = best if best.control else min(controls, key=lambda each: confounded(results, best, each) is not None)
    labels = dict(trials.select("trial", "label").iter_rows())
    if best.number == control.number:
        own = {each.number for each in controls}
        seeds = " over fresh seeds" if any(each.tested for each in results.evidence if each.number not in own) else ""
        by = f" by {results.metric_name} alone" if results.spec.against else ""
        return Advice(
            f"No sampled setting beats the control {labels[control.number]}{by}{seeds} yet.", "hyperparameters"
        )
    confirmed = {each.number for each in results.evidence if each.seed_error is not None}
    if {best.number, control.number} <= confirmed:  # the overview has it over fresh seeds, which say more than a run
        return None
    for name in reversed([score.name for score in best.evaluations[-1].scores]):
        found = last_pair(results, name, best.number, control.number)
        if found is not None:
            _, gap = found
            one, other = labels[best.number], labels[control.number]
            spread = f"points, {gap.counts}" if gap.error is None else f"± {text.points(gap.error)} points"
            points = text.points(gap.difference, signed=True)
            sentence = f"{one} minus {other} on {name}, problem by problem: {points} {spread}."
            if gap.better == gap.worse == 0:
                sentence = f"{one} and {other} solve each problem of {name} equally often."
            elif (line := confounded(results, best, control)) is not None:
                sentence += f" {line[0].upper()}{line[1:]}."
            both: dict[str, str | list[str]] = {"trials": [one, other], "set": name}
            return Advice(sentence, "compare", both)
    return None


def _few_problems(results: StudyResults) -> Advice | None:
    """How little the sets tell the best complete trials apart at their end: by few problems, or at a ceiling."""
    numbered = {trial.number: trial for trial in results.trials}
    best = [numbered[each.number].evaluations[-1].scores for each in results.evidence[:BEST]
            if numbered[each.number].evaluations]  # fmt: skip
    if len(best) < 2:
        return None
    said = []
    for name in [score.name for score in best[0]]:
        own = [score for scores in best for score in scores if score.name == name]
        differ, problems = differences.telling(own), len(own[0].solved)
        if len(own) > 1 and all(score.accuracy == 1 for score in own):
            said.append(f"{name} is at its ceiling: it cannot tell the best {len(own)} trials apart.")
        elif len(own) > 1 and 0 < differ < FEWEST:
            where = f"{differ} of {problems} problems of {name}"
            said.append(f"All differences between the best {len(own)} trials come from {where}.")
    return Advice(" ".join(said), "compare") if said else None


def _edges(results: StudyResults) -> Advice | None:
    """The first parameter whose best value lies at an end of its range that could be moved.

    Nothing where another configuration is as good, confirmed or not: which is called the best is a matter of order, or
    of seeds. Nothing either where fresh seeds say that the confirmed ones do not differ.
    """
    best, known = results.best, results.evidence
    if best is None or best.control or any(known[0].mean <= each.mean for each in known[1:]):
        return None
    if (test := seed_test(known)) is not None and test.alike:
        return None
    for key, space in results.spec.space.items():
        end = _edge(
            best, key, getattr(space, "low", None), getattr(space, "high", None), log=space.type == "log-uniform"
        )
        if end is not None and _may_go_on(results, best, key, end):
            value = text.number(best.params[key])
            return Advice(
                f"The best {text.label(key)}, {value}, lies at the {end} end of its range: widen the range there."
            )
    return None


def _edge(best: TrialResult, key: str, low: float | None, high: float | None, *, log: bool) -> str | None:
    value = best.params.get(key)
    if low is None or high is None or not isinstance(value, int | float):
        return None
    scale = math.log if log else float
    share = (scale(value) - scale(low)) / (scale(high) - scale(low))
    if share < EDGE:
        return "lower"
    return "upper" if share > 1 - EDGE else None


def _may_go_on(results: StudyResults, best: TrialResult, key: str, end: str) -> bool:
    """Whether the trainer takes a value beyond that end of its range: gamma, for example, ends at 1."""
    space = results.spec.space[key]
    low, high = getattr(space, "low", 0.0), getattr(space, "high", 0.0)
    step = 1 if space.type == "int" else 1e-3 * (high - low)
    beyond = {"upper": high + step, "lower": low / 2 if space.type == "log-uniform" else low - step}[end]
    try:
        results.spec.config({**best.settings, key: beyond})
    except UserError:
        return False
    return True
