"""How much of a study any pruner could save that prunes the truly best trial in 2 of 100 studies.

    python -m benchmarks.pruning_limit

The limit of `benchmarks.pruning`: a judge that knows more than a pruner can. It sees all 32 trials of a study up to the
same evaluation, though most have not begun by then, and it knows the family, of which it has learned from a thousand
studies with their ends. From a trial's place among the others it estimates the probability that the trial ends best,
and stops it as soon as that is small against what stopping saves; how small is set on the judged studies themselves, so
that the best is pruned in just 2 % of them. Once it sees the true accuracies, once what a pruner sees: avg@32.

Weak points: the estimate is a fitted one (gradient-boosted trees), so a cleverer judge might save a little more; of
what a pruner sees it has the mean over problems only, not each problem.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.worlds import FAMILIES, SAMPLES, TRIALS, Array, curves, paper, responses

PRUNED = 0.02
"""Share of studies in which the best trial may be pruned."""
STEPS = np.array(paper().steps)[1:]
"""Training steps at the evaluations after the base model's."""


def studies(family: str, count: int, *, seed: int, noise: bool) -> tuple[Array, Array]:
    """Accuracies as the judge sees them [studies, trials, evaluations], and which trials end best [studies, trials]."""
    random = np.random.default_rng((FAMILIES.index(family), seed))
    truth = np.stack([curves(family, TRIALS, random) for _ in range(count)])
    best = truth[..., -1] == truth[..., -1].max(axis=1, keepdims=True)
    if not noise:
        return truth, best
    return np.stack([responses(study, random).mean(axis=-1) / SAMPLES for study in truth]), best


def places(accuracy: Array) -> Array:
    """What the judge makes of a trial at each evaluation after the first: [studies, trials, evaluations - 1, 7].

    The share of the run that is over; the gap to the best trial now, one and three evaluations ago, and at its widest;
    the rank; and the distance from the median.
    """
    gap = accuracy.max(axis=1, keepdims=True) - accuracy
    before = [np.concatenate([gap[..., :1]] * lag + [gap[..., :-lag]], axis=-1) for lag in (1, 3)]
    rank = (-accuracy).argsort(axis=1).argsort(axis=1)
    middle = accuracy - np.median(accuracy, axis=1, keepdims=True)
    share = np.broadcast_to(np.array(paper().steps) / paper().steps[-1], gap.shape)
    return np.stack([share, gap, *before, np.maximum.accumulate(gap, axis=-1), rank, middle], axis=-1)[:, :, 1:]


class Judged:
    """Studies of one family: the probability [studies, trials, evaluations - 1] that each trial ends best, as the judge
    estimates it, and the truth."""

    def __init__(self, family: str, count: int, learned: int, *, noise: bool) -> None:
        known, best = studies(family, learned, seed=1, noise=noise)
        seen = places(known)
        model = HistGradientBoostingClassifier(max_iter=150, max_leaf_nodes=15, random_state=0)
        model.fit(seen.reshape(-1, seen.shape[-1]), np.repeat(best.ravel(), seen.shape[2]))
        accuracy, self.best = studies(family, count, seed=0, noise=noise)
        asked = places(accuracy)
        self.chance = model.predict_proba(asked.reshape(-1, asked.shape[-1]))[:, 1].reshape(asked.shape[:-1])

    def stopped(self, worth: float) -> tuple[Array, Array]:
        """Of each study the share of the steps that is saved and whether the best trial is pruned, when a chance of
        `worth` to end best is what a whole trial costs."""
        stop = self.chance < worth * (1 - STEPS / STEPS[-1])
        stop[..., -1] = True
        ended = stop.argmax(axis=-1)
        return 1 - STEPS[ended].mean(axis=1) / STEPS[-1], ended[self.best] < len(STEPS) - 1


def most_saved(families: Sequence[Judged]) -> float:
    """Share of the steps of all studies that is saved when the best may be pruned in `PRUNED` of them."""
    low, high = 0.0, 1.0
    for _ in range(25):
        worth = (low + high) / 2
        wrong = np.concatenate([family.stopped(worth)[1] for family in families]).mean()
        low, high = (worth, high) if wrong <= PRUNED else (low, worth)
    return float(np.concatenate([family.stopped(low)[0] for family in families]).mean())


def main() -> int:
    """Print what can be saved, by family and over all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400, help="of each family, judged (default 400)")
    parser.add_argument("--learned", type=int, default=1000, help="of each family, learned from (default 1000)")
    arguments = parser.parse_args()
    print(f"{'at most saved':13} {'seeing the truth':>17} {'seeing avg@32':>14}")
    kinds = [
        [Judged(family, arguments.studies, arguments.learned, noise=noise) for family in FAMILIES]
        for noise in (False, True)
    ]
    for name, *pair in (
        *zip(FAMILIES, *([[family] for family in kind] for kind in kinds), strict=True),
        ("all", *kinds),
    ):
        truth, seen = (most_saved(families) for families in pair)
        print(f"{name:13} {truth:17.0%} {seen:14.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
