"""What a target trainer cannot say: refused with the nearest it can say, or taken when the user asked for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config import FipoConfig, TrainerConfig
from trainer.errors import UserError


@dataclass(frozen=True)
class Gap:
    """One thing of a config that the target has no way to say."""

    ours: str
    """Key and value, for example ``fipo.filtering = False``."""
    reason: str
    """What the target does instead, and why."""
    taken: str
    """The nearest expressible choice, which `--approximate` writes."""
    others: tuple[str, ...] = ()
    """What else could be chosen instead, by hand."""

    def __str__(self) -> str:
        return f"{self.ours}: {self.reason}; nearest: {self.choices}"

    @property
    def choices(self) -> str:
        """The nearest choice, then the others."""
        return ", or ".join((self.taken, *self.others))


def settle(gaps: Sequence[Gap], *, target: str, approximate: bool) -> None:
    """Raise UserError when there are gaps and the user did not ask for approximations."""
    if not gaps or approximate:
        return
    raise UserError(
        f"--to {target}: {'; and '.join(map(str, gaps))}; add --approximate to take the nearest, which is then written"
        " at the top of the file, or choose another trial or target"
    )


def half_life(config: TrainerConfig, gaps: list[Gap]) -> float:
    """tau in tokens of `config`, gamma = 2^(-1/tau); gamma 0 and 1 have none and get a gap with a near one.

    0 becomes 2^-20 per token, 1 a discount of at most 0.1 % over the longest response.
    """
    fipo = config.fipo
    if fipo.tau is not None:
        return fipo.tau
    tau = 0.05 if fipo.gamma == 0.0 else float(1000 * config.rollout.max_response_length)
    gaps.append(
        Gap(
            f"fipo.gamma = {fipo.gamma:g}",
            "the discount is given as a half-life, which only gamma between 0 and 1 has",
            f"half-life {tau:g} tokens, gamma {2.0 ** (-1.0 / tau):.6g}",
        )
    )
    return tau


def one_ratio(fipo: FipoConfig, gaps: list[Gap], *, unclipped: bool) -> tuple[float, bool] | None:
    """(ratio, high only) for targets with one number for both bounds; None for weights of 1, which is DAPO.

    Such targets read (r, True) as weights in [1, 1 + r], (r, False) as [1 - r, 1 + r] and 0 as no clipping; `unclipped`
    says that the latter is [0, 10] there (verl), not without bound (ms-swift). Whatever is not one of these is a gap,
    and the nearest is that of the least Euclidean distance of both bounds.
    """
    low, high = fipo.epsilon_f_low, fipo.epsilon_f_high
    ours = f"fipo.epsilon_f_low = {low:g}, fipo.epsilon_f_high = {high:g}"
    if fipo.is_dapo:
        gaps.append(Gap(ours, "a ratio of 0 means no clipping there, not weights of 1", "its loss without FIPO, DAPO"))
        return None
    if unclipped and (low, high) == (1.0, 9.0):
        return 0.0, False
    choices = {(0.0, high): (high, True)} if high > 0 else {}
    # The mean of both is the nearest of all equal bounds; it is above 1 only where the upper bound is.
    choices |= {
        (each, each): (each, False) for each in (min(round((low + high) / 2, 9), 1.0), high, low) if 0 < each <= 1
    }
    ranked = sorted(choices, key=lambda bounds: math.dist(bounds, (low, high)))
    if ranked[0] != (low, high):
        ours += f", so that weights lie in {_weights(low, high)}"
        said = [
            f"epsilon_f_low = {near_low:g}, epsilon_f_high = {near_high:g}, weights in {_weights(near_low, near_high)}"
            for near_low, near_high in ranked
        ]
        reason = "one ratio serves both bounds there, or the upper one alone"
        gaps.append(Gap(ours, reason, said[0], (*said[1:], "--to slime, which has both bounds")))
    return choices[ranked[0]]


def _weights(low: float, high: float) -> str:
    return f"[{1 - low:g}, {1 + high:g}]"


def no_filter_switch(fipo: FipoConfig, gaps: list[Gap]) -> None:
    """Filtering of tokens beyond dual_clip out of the future KL is always on elsewhere."""
    if not fipo.filtering:
        gaps.append(Gap("fipo.filtering = False", "tokens beyond the dual clip are always left out there", "filtering"))


def no_dropping(config: TrainerConfig, gaps: list[Gap], *, there: str, taken: str) -> None:
    """A sequence with several tokens beyond the dual clip: the authors' FIPO loss leaves it out, and so do we."""
    ours = f"fipo.dual_clip = {config.fipo.dual_clip:g}"
    gaps.append(
        Gap(ours, f"a sequence with more than one token beyond it is left out of the loss here, {there}", taken)
    )


def no_importance_cap(config: TrainerConfig, gaps: list[Gap]) -> None:
    """Truncated importance sampling between rollout engine and trainer, where the target's FIPO loss has none."""
    if config.rollout.importance_cap is not None:
        ours = f"rollout.importance_cap = {config.rollout.importance_cap:g}"
        reason = "its loss has no importance weights between rollout engine and trainer"
        gaps.append(Gap(ours, reason, "none, as rollout.importance_cap = null"))


def boxed_answers(config: TrainerConfig, gaps: list[Gap]) -> None:
    """Targets whose accuracy reward finds an answer only in LaTeX: without a box every response would be wrong."""
    if config.data.template != "boxed":
        ours = f"data.template = {config.data.template}"
        reason = "its accuracy reward reads answers in LaTeX only, so that one in plain text is wrong"
        gaps.append(Gap(ours, reason, "data that asks for the answer in a box, as data.template = boxed"))


def one_k(config: TrainerConfig, gaps: list[Gap]) -> int:
    """Responses per problem in evaluation, the largest where the sets differ."""
    ks = sorted({each.samples for each in config.evaluation.sets})
    if len(ks) > 1:
        ours = f"evaluation.sets with samples {', '.join(map(str, ks))}"
        gaps.append(Gap(ours, "one number serves all sets", f"{ks[-1]}"))
    return ks[-1]


def one_batch(config: TrainerConfig, gaps: list[Gap], taken: str) -> None:
    """With one sampled batch this trainer drops groups without an advantage and trains on the others."""
    if config.rollout.max_sampled_batches == 1:
        gaps.append(
            Gap(
                "rollout.max_sampled_batches = 1",
                "groups that are all right or all wrong are left out here without sampling others, which cannot be said"
                " there",
                taken,
            )
        )


def only_aggregation(config: TrainerConfig, gaps: list[Gap], allowed: dict[str, str]) -> str:
    """The target's word for `fipo.aggregation`; one that is not `allowed` becomes token-mean, with a gap."""
    ours = config.fipo.aggregation
    if ours not in allowed:
        gaps.append(Gap(f"fipo.aggregation = {ours}", f"it only has {', '.join(allowed)}", "token-mean"))
        ours = "token-mean"
    return allowed[ours]
