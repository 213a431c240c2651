"""A pruner for AIME: 30 problems, k samples each, and curves whose order may still change.

Notation: trial x stands at training step s. Its rate on problem i is ``x_i``, the share of correct responses over the
last `window` evaluations up to s; ``r_i`` is the same of the reference, the mean of the `references` completed trials
that ended best. Taking several is against the winner's curse: the best of many noisy finals is mostly a lucky one.

1. Gap now, paired by problem: ``D = mean_i(x_i - r_i)``, ``SE^2 = var_i(x_i - r_i) / problems``. Pairing removes how
   hard the problems are; the variance over problems holds problem noise and sampling noise together (Miller 2024,
   "Adding Error Bars to Evals", arXiv 2411.00640, paired differences). It is at least the sampling variance of x alone,
   with rates smoothed by half a response, so that 0 of k everywhere is not taken for certainty.
2. Information: Kendall's tau between the completed trials' accuracy at s and at their end (exact one-sided test).
   Unless p <= `information_level`, interim results are not known to say anything, and the trial is kept.
3. Forecast: completed trials give ``final = slope * interim + residual``, the slope by Theil and Sen (median of
   pairwise slopes), the residual spread ``sigma`` by the residuals above the line, because only a rise could save a
   trial; so one collapsed trial spoils neither. Fitted on trials that survived by their interim results, a slope is
   not biased by that, as a correlation would be.
4. The final gap is then ``slope * D`` with variance ``sigma^2 (1 + 1/m) + D^2 sigma^2 / Sxx + slope^2 SE^2``, the
   prediction variance of a line with m references plus what 1. leaves open, and Student's t with n - 2 degrees of
   freedom for n completed trials. It counts sampling noise in both sigma and SE, which errs towards keeping. Prune when
   ``P(final gap < -margin) > level`` at `patience` evaluations in a row: the stopping criterion of Domhan et al.
   (IJCAI 2015) with a forecast that can be checked by hand.

The rate of false prunes is measured, not derived: `python -m benchmarks.pruning`. So far, over 39 simulated studies of
five families: the truly best trial pruned in none (95 % interval 0..9 %, too few to claim less), 17 % of trial-steps
saved (40 % where learning rates differ widely, 2 % where interim results carry no information).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from study.bridge import solved_key

if TYPE_CHECKING:
    import optuna

Array = np.ndarray
REASON = "pruner"
"""User attribute of a trial: the pruner's last decision in one line."""


@dataclass(frozen=True)
class Decision:
    """Whether to prune, the probability of ending worse by more than the margin (None: not computed), and why."""

    prune: bool
    probability: float | None
    reason: str


def decide(
    trial: Array,
    completed: Array,
    finals: Array,
    *,
    samples: int,
    margin: float,
    level: float,
    information_level: float,
    references: int,
) -> Decision:
    """Steps 1 to 4 above, at one training step.

    Args:
        trial: [problems] rates 0..1 of the trial in question.
        completed: [trials, problems] rates of completed trials at the same step.
        finals: [trials] their accuracy at the end.
        samples: responses per problem that each rate of `trial` was counted over.
        margin: accuracy (0..1) by which a trial may end below the reference and still be kept.
        level: probability above which it is pruned.
        information_level: largest p of Kendall's test at which interim results count as informative.
        references: most completed trials in the reference; never more than half of them.
    Raises:
        ValueError: fewer than three completed trials, which leave no degree of freedom.
    """
    from scipy import stats

    count = len(finals)
    if count < 3:
        raise ValueError(f"need 3 or more completed trials, got {count}")
    interim = completed.mean(axis=1)
    test = stats.kendalltau(interim, finals, alternative="greater")
    # nan: all equal, for example at the base model
    if not test.pvalue <= information_level:
        tau = "undefined" if math.isnan(test.statistic) else f"{test.statistic:.2f}"
        return Decision(
            False, None, f"kept: no evidence that interim results predict the end (Kendall tau {tau}, n = {count})"
        )

    sampling = _sampling_variance(trial, samples)
    line = stats.theilslopes(finals, interim, method="joint")
    above = np.clip(finals - line.slope * interim - line.intercept, 0, None)
    # Twice the upper half's sum of squares: the variance, were the lower half its mirror image.
    sigma2 = max(2 * float((above**2).sum()) / (count - 2), sampling)

    best = np.argsort(-finals)[: max(1, min(references, count // 2))]
    gaps = trial - completed[best].mean(axis=0)
    gap = float(gaps.mean())
    paired = max(float(gaps.var(ddof=1)) / len(gaps), sampling)
    spread = float(((interim - interim.mean()) ** 2).sum())
    variance = sigma2 * (1 + 1 / len(best)) + gap**2 * sigma2 / spread + line.slope**2 * paired
    probability = float(stats.t.cdf((-margin - line.slope * gap) / math.sqrt(variance), count - 2))
    prune = probability > level
    return Decision(
        prune,
        probability,
        f"{'worse' if prune else 'kept'}: gap {gap:+.3f} ±{math.sqrt(paired):.3f} now, forecast {line.slope * gap:+.3f}"
        f" ±{math.sqrt(variance):.3f}, P(worse by more than {margin:g}) = {probability:.3f}",
    )


def _sampling_variance(rates: Array, samples: int) -> float:
    """Variance of the mean of `rates` [problems] from drawing `samples` responses to each."""
    smooth = (rates * samples + 0.5) / (samples + 1)
    return float((smooth * (1 - smooth)).sum() / samples / len(rates) ** 2)


class AimePruner(BasePruner):
    """`decide` over an Optuna study whose trials carry the user attributes that `Bridge.report` writes.

    Args:
        n_startup_trials: completed trials before any is pruned; 4 or more, the fewest with which Kendall's test can
            reach 0.05.
        n_warmup_steps: training steps before which no trial is pruned.
        patience: consecutive evaluations that must agree.
        window: evaluations averaged into a rate. The base model (step 0) is never one of them.
        references, margin, level, information_level: see `decide`.
    Raises:
        ValueError: an option outside its range.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 4,
        n_warmup_steps: int = 0,
        patience: int = 2,
        window: int = 3,
        references: int = 3,
        margin: float = 0.01,
        level: float = 0.9,
        information_level: float = 0.1,
    ) -> None:
        if n_startup_trials < 4:
            raise ValueError(f"n_startup_trials must be 4 or more, got {n_startup_trials}")
        if n_warmup_steps < 0:
            raise ValueError(f"n_warmup_steps must be 0 or more, got {n_warmup_steps}")
        for name, value in (("patience", patience), ("window", window), ("references", references)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if not 0 <= margin < 1:
            raise ValueError(f"margin must be within 0..1 (accuracy), got {margin}")
        if not 0.5 <= level < 1:
            raise ValueError(f"level must be at least 0.5 and below 1, got {level}")
        if not 0 < information_level <= 0.5:
            raise ValueError(f"information_level must be above 0 and at most 0.5, got {information_level}")
        self._startup, self._warmup, self._patience, self._window = n_startup_trials, n_warmup_steps, patience, window
        self._options: dict[str, Any] = {
            "references": references, "margin": margin, "level": level, "information_level": information_level
        }  # fmt: skip

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether to stop `trial` after its last report; the reason goes to its user attribute `pruner`.

        Raises:
            ValueError: a trial without its per-problem results.
        """
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        steps = _steps(trial)
        if len(completed) < self._startup or len(steps) < self._patience or steps[-1] < self._warmup:
            return False
        for end in range(len(steps), len(steps) - self._patience, -1):
            decision = self._decide(trial, steps[max(0, end - self._window) : end], completed)
            if end == len(steps):
                study._storage.set_trial_user_attr(trial._trial_id, REASON, decision.reason)
            if not decision.prune:
                return False
        return True

    def _decide(
        self, trial: optuna.trial.FrozenTrial, steps: list[int], completed: list[optuna.trial.FrozenTrial]
    ) -> Decision:
        peers = [each for each in completed if set(steps) <= each.intermediate_values.keys()]
        if len(peers) < self._startup:
            return Decision(False, None, f"kept: {len(peers)} completed trials were evaluated at the same steps")
        rates, samples = _rates(trial, steps)
        finals = np.array([_rates(each, _steps(each)[-self._window :])[0].mean() for each in peers])
        interim = np.stack([_rates(each, steps)[0] for each in peers])
        return decide(rates, interim, finals, samples=samples, **self._options)


def _steps(trial: optuna.trial.FrozenTrial) -> list[int]:
    """Evaluated training steps in order, the base model left out."""
    return sorted(step for step in trial.intermediate_values if step > 0)


def _rates(trial: optuna.trial.FrozenTrial, steps: list[int]) -> tuple[Array, int]:
    """Share of correct responses per problem over `steps`, and the responses per problem it is counted over."""
    try:
        records = [trial.user_attrs[solved_key(step)] for step in steps]
    except KeyError as error:
        raise ValueError(f"trial {trial.number} has no per-problem results {error}, which this pruner needs") from None
    samples = sum(record["samples"] for record in records)
    return np.sum([record["solved"] for record in records], axis=0) / samples, samples
