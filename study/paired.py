"""Two trials on the same problems: the difference of their accuracies, its error, and the step to compare them at."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.results import StudyResults
    from trainer.records import SetScore

FEWEST = 5
"""Problems that have to differ for an error over problems: with fewer, counts say more."""


@dataclass(frozen=True)
class Paired:
    """One trial minus another on the same problems."""

    difference: float
    """Of avg@k, as a fraction."""
    error: float | None
    """One standard error over problems; None where fewer than `FEWEST` differ, or all alike: that is no spread."""
    problems: int
    better: int
    """Problems that the one solves more often."""
    worse: int

    @property
    def counts(self) -> str:
        """What stands for an error: on how many problems they differ."""
        if self.better == self.worse == 0:
            return f"the same on all {self.problems}"
        return f"better on {self.better}, worse on {self.worse} of {self.problems} problems"


def paired(first: SetScore, second: SetScore) -> Paired:
    """Compare two scores of one set. Raises ValueError when they are not over the same number of problems."""
    count = len(first.solved)
    if count != len(second.solved):
        raise ValueError(f"{first.name}: {count} and {len(second.solved)} problems cannot be paired")
    # Whole numbers, so that gaps that are equal are equal whatever each k is.
    gaps = [one * second.samples - two * first.samples for one, two in zip(first.solved, second.solved, strict=True)]
    unit = first.samples * second.samples
    better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    spreads = len(set(gaps)) > 1 and better + worse >= FEWEST
    error = statistics.stdev(gaps) / unit / math.sqrt(count) if spreads else None
    return Paired(sum(gaps) / unit / count, error, count, better, worse)


def common(results: StudyResults, set_name: str, trials: Sequence[int]) -> tuple[int, dict[int, SetScore]] | None:
    """The last step at which all `trials` evaluated the set, and the score of each; None where there is none.

    The base model's evaluation, before the first step, is none: it says nothing of the trials.
    """
    known = {each.number: each.scores(set_name) for each in results.trials if each.number in trials}
    shared = set.intersection(*(set(steps) for steps in known.values())) - {0} if known else set()
    if not shared:
        return None
    return max(shared), {number: steps[max(shared)] for number, steps in known.items()}


def last_pair(results: StudyResults, set_name: str, first: int, second: int) -> tuple[int, Paired] | None:
    """Trial `first` minus trial `second` at the last step that both have, and that step; None where they have evaluated
    no problems in common."""
    found = common(results, set_name, [first, second])
    if found is None or len({len(score.solved) for score in found[1].values()}) > 1:
        return None
    step, scores = found
    return step, paired(scores[first], scores[second])
