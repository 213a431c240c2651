"""How much of the best trial's accuracy is luck of the choice: an estimate without the bias of picking the highest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.results import StudyResults
from trainer.digits import decimal
from trainer.records import SetScore

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
            f"{decimal(self.corrected, digits=4)} by split halves over problems ({self.halvings} halvings: the best of"
            f" {self.candidates} COMPLETE trials on one half, reported on the other; low where trials differ, since"
            " fewer problems choose less well; of these policies, not of training again with another seed), against"
            f" {decimal(self.selected, digits=4)} as selected"
        )


def split_half(results: StudyResults, *, halvings: int = HALVINGS, seed: int = SEED) -> SplitHalf | None:
    """The accuracy to expect of "take the best trial" on problems that it was not chosen on.

    Problems, not samples, are halved: the samples of one problem share its difficulty. None where `no_estimate` says
    why.
    """
    if no_estimate(results) is not None:
        return None
    scores = _scores(results)
    if results.spec.metric == "avg@k":
        rates = np.array([np.array(score.solved) / score.samples for score in scores])
    else:
        rates = np.array([np.array(score.solved) > 0 for score in scores], dtype=float)
    corrected = chosen_on_one_half(rates, halvings=halvings, seed=seed)
    return SplitHalf(len(scores), float(rates.mean(axis=1).max()), corrected, halvings)


def no_estimate(results: StudyResults) -> str | None:
    """Why there is no split-half estimate; None where there is one."""
    if results.spec.metric == "cons@k":
        return "evaluations.jsonl keeps no votes by problem, of which cons@k is made"
    problems = {len(score.solved) for score in _scores(results)}
    if len(_scores(results)) < 2:
        return "fewer than two trials are COMPLETE"
    if len(problems) > 1:
        return "the trials were evaluated on different problems"
    return "there are fewer than four problems" if min(problems) < 4 else None


def chosen_on_one_half(rates: np.ndarray, *, halvings: int, seed: int) -> float:
    """Mean accuracy on one half of the problems of the trial that is best on the other half.

    Neither half knows the noise of the other, so this is an unbiased estimate of the accuracy that choosing on half the
    problems leads to. Choosing on all of them does a little better where trials differ: the truth then lies between
    this and the highest accuracy.

    Args:
        rates: [trials, problems], the metric of each problem in 0..1.
        halvings: random halvings to average over; each is used both ways.
    """
    generator = np.random.default_rng(seed)
    count = rates.shape[1]
    reported = []
    for _ in range(halvings):
        order = generator.permutation(count)
        halves = order[: count // 2], order[count // 2 :]
        for chosen_on, reported_on in (halves, halves[::-1]):
            best = int(rates[:, chosen_on].mean(axis=1).argmax())
            reported.append(rates[best, reported_on].mean())
    return float(np.mean(reported))


def _scores(results: StudyResults) -> list[SetScore]:
    """Of the selecting set after the last step, of each COMPLETE trial that was sampled, not those that confirm one."""
    found = (
        trial.newest(results.spec.selecting.name)
        for trial in results.trials
        if trial.state == "COMPLETE" and trial.confirms is None
    )
    return [score for score in found if score is not None]
