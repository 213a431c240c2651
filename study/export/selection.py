"""How much of the best trial's accuracy is luck of the choice: an estimate without the bias of picking the highest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.metric import selecting_score
from study.results import StudyResults

HALVINGS, SEED = 500, 0


@dataclass(frozen=True)
class SplitHalf:
    """Accuracies of the selecting set, fractions 0..1."""

    candidates: int
    """COMPLETE trials that were chosen among."""
    selected: float
    """The highest accuracy, chosen and reported on the same problems: biased upward."""
    corrected: float
    """Chosen on one half of the problems and reported on the other, averaged over seeded halvings and both halves."""
    halvings: int = HALVINGS

    def __str__(self) -> str:
        return (
            f"{self.corrected:.4f} by split halves over problems ({self.halvings} seeded halvings, among"
            f" {self.candidates} COMPLETE trials: the best of one half, reported on the other; choosing on half the"
            f" problems makes it slightly low), against {self.selected:.4f} as selected"
        )


def split_half(results: StudyResults, *, halvings: int = HALVINGS, seed: int = SEED) -> SplitHalf | None:
    """The accuracy to expect of "take the best trial" on problems that it was not chosen on.

    Problems, not samples, are halved: the samples of one problem share its difficulty. For avg@k and pass@k; None for
    cons@k, whose votes are not kept, for fewer than two COMPLETE trials, or fewer than four problems.
    """
    rates = _rates(results)
    if rates is None or rates.shape[0] < 2 or rates.shape[1] < 4:
        return None
    generator = np.random.default_rng(seed)
    count = rates.shape[1]
    reported = []
    for _ in range(halvings):
        order = generator.permutation(count)
        halves = order[: count // 2], order[count // 2 :]
        for chosen_on, reported_on in (halves, halves[::-1]):
            best = int(rates[:, chosen_on].mean(axis=1).argmax())
            reported.append(rates[best, reported_on].mean())
    return SplitHalf(rates.shape[0], float(rates.mean(axis=1).max()), float(np.mean(reported)), halvings)


def _rates(results: StudyResults) -> np.ndarray | None:
    """[trials, problems]: the metric of each problem after the last step of each COMPLETE trial."""
    metric, name = results.spec.metric, results.spec.evaluation_config().sets[0].name
    if metric == "cons@k":
        return None
    scores = [
        score
        for trial in results.trials
        if trial.state == "COMPLETE" and trial.evaluations
        if (score := selecting_score(trial.evaluations[-1], name)) is not None
    ]
    if len({len(score.solved) for score in scores}) != 1:
        return None
    solved = np.array([score.solved for score in scores], dtype=float)
    samples = np.array([[score.samples] for score in scores])
    return solved / samples if metric == "avg@k" else (solved > 0).astype(float)
