"""What may be said of the best trial: what its seeds are, that all trials tie, or that it is partly luck."""

from __future__ import annotations

from collections.abc import Sequence

from study.evidence import seeds_against_settings
from study.metric import metric_value, selecting_score
from study.results import StudyResults, TrialResult
from study.tables import ENDED, label, one_line
from trainer.records import SetScore


def verdict(results: StudyResults) -> list[str]:
    """The best trial and how sure that is, line by line; nothing before a first trial is COMPLETE."""
    best, found = results.best, results.evidence
    if best is None:
        return []
    means = seed_means(results)
    if not means and (tied := tie(results)) is not None:
        return [tied]
    if found[0].seed_error is None:
        means.append(_warning(results, best))
    said = seeds_against_settings(found)
    return [f"Best: {one_line(results, best)}", *means, *([f"The {said}"] if said else [])]


def seed_means(results: StudyResults) -> list[str]:
    """The mean over fresh seeds of each confirmed configuration with its error, best first, controls among them."""
    trials = {trial.number: trial for trial in results.trials}
    lines = []
    for each in results.evidence:
        if each.seed_error is not None:
            name = label(trials[each.number])
            spread = f"±{each.seed_error:.3f}" if each.seed_error else "(all the same)"
            lines.append(
                f"Over {len(each.fresh)} fresh seeds: {results.metric_name} {each.mean:.3f} {spread} of trial"
                f" {each.number}" + (f" ({name})" if name else "")
            )
    return lines


def tie(results: StudyResults) -> str | None:
    """That all COMPLETE trials solved every problem equally often at their last step; None where one did not."""
    complete = [trial for trial in results.trials if trial.state == "COMPLETE" and trial.confirms is None]
    scores = [score for trial in complete if (score := _last(results, trial)) is not None]
    if len(scores) < 2 or len(scores) < len(complete) or not _equal(scores, results.spec.metric):
        return None
    solved = sum(scores[0].solved)
    remedy = (
        "evaluate on harder problems"
        if solved == scores[0].samples * len(scores[0].solved)
        else "train longer or raise the learning rate"
    )
    return (
        f"All {len(scores)} COMPLETE trials solved every problem equally often at the last step: what was swept changed"
        f" nothing that this evaluation can see; {remedy}"
    )


def _equal(scores: Sequence[SetScore], metric: str) -> bool:
    return len({(score.samples, score.solved, metric_value(score, metric)) for score in scores}) == 1


def _last(results: StudyResults, trial: TrialResult) -> SetScore | None:
    name = results.spec.evaluation_config().sets[0].name
    return selecting_score(trial.evaluations[-1], name) if trial.evaluations else None


def _warning(results: StudyResults, best: TrialResult) -> str:
    score = _last(results, best)
    among = sum(trial.state in ENDED and trial.confirms is None for trial in results.trials)
    problems = f" on {len(score.solved)} problems" if score is not None else ""
    if among == 1:
        return "No other trial has ended, so it is not known to be better than any"
    return f"It is the highest of {among}{problems}, so part of it is luck; fresh seeds tell how much (replicas)"
