"""A pruner for AIME: 30 problems, k samples each, and curves whose order may still change.

Notation: trial x stands at training step s with a share ``remaining`` of its steps to go. Its rate on problem i is
``x_i``, the share of correct responses at s; ``r_i`` is the same of the reference, the mean of the `references`
completed trials that ended best. Taking several is against the winner's curse: the best of many noisy finals is mostly
a lucky one.

1. Gap now, paired by problem: ``D = mean_i(x_i - r_i)``, ``SE^2 = var_i(x_i - r_i) / problems``. Pairing removes how
   hard the problems are; the variance over problems holds problem noise and sampling noise together (Miller 2024,
   "Adding Error Bars to Evals", arXiv 2411.00640, paired differences). It is at least the sampling variance of x alone,
   with rates smoothed by half a response, so that 0 of k everywhere is not taken for certainty.
2. Information: Kendall's tau between the completed trials' accuracy at s and at their end (exact one-sided test).
   Trials that fell by more than `_FALL` since s are left out: they say that high ones may fall, and the question is
   whether low ones rise. Unless p <= `information_level`, interim results are not known to say anything, and x is kept.
3. Forecast: ``final gap = slope * D + e``. The slope has the prior N(1, 1/2), a gap lasts, and e the scale
   ``_DRIFT * sqrt(remaining)`` with the weight of `_WEIGHT` trials: what the gaps between the paper's own curves did
   (Figures 1, 8, 12: 0.037). The gaps of those completed trials that did not fall, at s and at the end, update both
   (conjugate normal regression through the origin; Gelman et al., Bayesian Data Analysis, 14.2). Of their residuals
   only those above the line count, twice, because only a rise could save x.
4. The final gap is then Student's t around ``slope * D`` with variance ``e^2 + D^2 var(slope) + slope^2 SE^2``. Prune
   when ``P(final gap < -margin) > level`` at `patience` evaluations in a row: the stopping criterion of Domhan et al.
   (IJCAI 2015) with a forecast that can be checked by hand.

A racing evaluation (`AimePruner.is_open`) draws few responses first, and more only while the probability of step 4 lies
within (1 - level, level): outside, or without information, further responses would hardly change what is decided here.
A trial that the first responses show level with the reference, or above it, is kept with them alone: step 4 asks only
of those below. Its interim accuracy may owe that to luck; the last evaluation draws all. The probability counts the
noise of the responses drawn so far, so that few of them cannot prune more boldly.

The rate of false prunes is measured, not derived, see `python -m benchmarks.pruning` and its table in the README.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from study import attributes
from study.metric import completed_value

if TYPE_CHECKING:
    import optuna

Array = np.ndarray
_DRIFT = 0.04
"""Standard deviation of how far a gap in accuracy moves over a whole run, before any trial of the study is known."""
_WEIGHT = 4
"""How many completed trials that guess is worth."""
_SLOPE_VARIANCE = 0.25
_FALL = 0.1
"""Accuracy lost since the interim result, from which on a trial counts as fallen."""


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
    remaining: float,
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
        remaining: share of the training steps still to come, above 0: at the end there is nothing to forecast.
        margin: accuracy (0..1) by which a trial may end below the reference and still be kept.
        level: probability above which it is pruned.
        information_level: largest p of Kendall's test at which interim results count as informative.
        references: most completed trials in the reference; never more than half of them.
    """
    from scipy import stats

    count, interim = len(finals), completed.mean(axis=1)
    best = _best(finals, references)
    gaps = trial - completed[best].mean(axis=0)
    gap = float(gaps.mean())
    if gap >= 0:
        return Decision(False, 0.0, f"kept: gap {gap:+.3f} now, not below the reference")

    stayed = interim - finals < _FALL
    kept = "kept: no evidence that interim results predict the end"
    if stayed.sum() < 2:
        return Decision(False, None, f"{kept} (of {count} trials {stayed.sum()} did not fall)")
    test = stats.kendalltau(interim[stayed], finals[stayed], alternative="greater")
    if not test.pvalue <= information_level:  # nan where all are equal, for example at the base model
        tau = "undefined" if math.isnan(test.statistic) else f"{test.statistic:.2f}"
        return Decision(False, None, f"{kept} (Kendall tau {tau}, n = {stayed.sum()})")

    then, end = (values[stayed] - values[best].mean() for values in (interim, finals))
    prior = _DRIFT**2 * remaining
    spread = float((then**2).sum())
    slope = (1 / _SLOPE_VARIANCE + float(then @ end) / prior) / (1 / _SLOPE_VARIANCE + spread / prior)
    above = np.clip(end - slope * then, 0, None)
    freedom = _WEIGHT + len(then) - 1
    # Twice the upper half's sum of squares: the variance, were the lower half its mirror image.
    drift = (_WEIGHT * prior + 2 * float((above**2).sum())) / freedom
    paired = max(float(gaps.var(ddof=1)) / len(gaps), _sampling_variance(trial, samples))
    variance = drift + gap**2 / (1 / _SLOPE_VARIANCE + spread / drift) + slope**2 * paired
    probability = float(stats.t.cdf((-margin - slope * gap) / math.sqrt(variance), freedom))
    prune = probability > level
    return Decision(
        prune,
        probability,
        f"{'worse' if prune else 'kept'}: gap {gap:+.3f} ±{math.sqrt(paired):.3f} now, forecast {slope * gap:+.3f}"
        f" ±{math.sqrt(variance):.3f}, P(worse by more than {margin:g}) = {probability:.3f}",
    )


def _best(finals: Array, references: int) -> Array:
    """Rows of the trials that make the reference, the best final accuracy first."""
    return np.argsort(-finals)[: max(1, min(references, len(finals) // 2))]


def _sampling_variance(rates: Array, samples: int) -> float:
    """Variance of the mean of `rates` [problems] from drawing `samples` responses to each."""
    smooth = (rates * samples + 0.5) / (samples + 1)
    return float((smooth * (1 - smooth)).sum() / samples / len(rates) ** 2)


class AimePruner(BasePruner):
    """`decide` over an Optuna study whose trials carry the user attributes that `Bridge.report` writes.

    Args:
        n_startup_trials: trials, 4 or more, that complete before any is pruned; with fewer Kendall's test of
            `information_level` cannot reach 0.05.
        n_warmup_steps: training steps, 0 or more, before which no trial is pruned.
        patience: evaluations in a row, 1 or more, that must agree. The base model (step 0) is never one of them.
        references: trials, 1 or more, that completed best and whose mean a trial is compared with; never more than half
            of those that completed.
        margin: accuracy as a fraction, 0 to below 1, by which a trial may end below the reference and still be kept.
        level: probability, 0.5 to below 1, of ending worse than that above which a trial is pruned. A higher one prunes
            later and less often wrongly.
        information_level: probability, above 0 to 0.5: the largest p of Kendall's test at which the accuracy at this
            step counts as telling of that at the end. Until it does nothing is pruned; a lower one wants more evidence.
    Raises:
        ValueError: an option outside its range.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 4,
        n_warmup_steps: int = 0,
        patience: int = 2,
        references: int = 3,
        margin: float = 0.0,
        level: float = 0.8,
        information_level: float = 0.1,
    ) -> None:
        if n_startup_trials < 4:
            raise ValueError(f"n_startup_trials must be 4 or more, got {n_startup_trials}")
        if n_warmup_steps < 0:
            raise ValueError(f"n_warmup_steps must be 0 or more, got {n_warmup_steps}")
        for name, value in (("patience", patience), ("references", references)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if not 0 <= margin < 1:
            raise ValueError(f"margin must be within 0..1 (accuracy), got {margin}")
        if not 0.5 <= level < 1:
            raise ValueError(f"level must be at least 0.5 and below 1, got {level}")
        if not 0 < information_level <= 0.5:
            raise ValueError(f"information_level must be above 0 and at most 0.5, got {information_level}")
        self._startup, self._warmup, self._patience = n_startup_trials, n_warmup_steps, patience
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
        for step in reversed(steps[-self._patience :]):
            decision = self._decide(step, *_rates(trial, step), completed)
            if step == steps[-1]:
                study._storage.set_trial_user_attr(trial._trial_id, attributes.PRUNER_REASON, decision.reason)
            if not decision.prune:
                return False
        return True

    def is_open(self, study: optuna.Study, step: int, solved: Sequence[int], samples: int) -> bool:
        """Whether more responses could change the decision on a running trial: of `samples` to each problem at `step`,
        `solved` [problems] are correct.

        Until `n_startup_trials` have been completed it is open: nothing is decided yet, and these results are what all
        later trials are compared with.
        """
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if sum(step in each.intermediate_values for each in completed) < self._startup:
            return True
        probability = self._decide(step, np.array(solved) / samples, samples, completed).probability
        return probability is not None and 1 - self._options["level"] < probability < self._options["level"]

    def _decide(self, step: int, rates: Array, samples: int, completed: list[optuna.trial.FrozenTrial]) -> Decision:
        peers = [each for each in completed if step in each.intermediate_values]
        if len(peers) < self._startup:
            return Decision(False, None, f"kept: {len(peers)} completed trials were evaluated at this step")
        end = max(max(each.intermediate_values) for each in peers)
        finals = np.array([completed_value(each) for each in peers])
        decision = decide(
            rates,
            np.stack([_rates(each, step)[0] for each in peers]),
            finals,
            samples=samples,
            remaining=1 - step / end,
            **self._options,
        )
        if decision.probability is None:  # it was compared with none
            return decision
        named = ", ".join(str(peers[row].number) for row in _best(finals, self._options["references"]))
        return replace(decision, reason=f"{decision.reason}; reference: trials {named}")


def _steps(trial: optuna.trial.FrozenTrial) -> list[int]:
    """Evaluated training steps in order, the base model left out."""
    return sorted(step for step in trial.intermediate_values if step > 0)


def _rates(trial: optuna.trial.FrozenTrial, step: int) -> tuple[Array, int]:
    """Share of correct responses per problem at `step`, and the responses per problem it is counted over."""
    try:
        record = trial.user_attrs[attributes.solved(step)]
    except KeyError as error:
        raise ValueError(f"trial {trial.number} has no per-problem results {error}, which this pruner needs") from None
    return np.array(record["solved"]) / record["samples"], record["samples"]
