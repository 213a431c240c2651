"""How far an exported run is from the one in which its FIPO values were found."""

from __future__ import annotations

from study.results import TrialResult
from trainer.config import TrainerConfig


def tuned_on(trial: TrialResult, own: TrainerConfig) -> str:
    """Model and response lengths of the trial, whose config is `own`, and its half-life in relation to them."""
    text = f"tuned on model {own.model.path}, responses of at most {own.rollout.max_response_length:,} tokens"
    score = trial.newest(own.evaluation.sets[0].name)
    if score is None:
        return text
    mean, tau = score.mean_length, None if own.fipo.is_dapo else own.fipo.tau
    text += f", {mean:,.1f} on average"
    return text if tau is None or not mean else f"{text}: a half-life of {tau:.4g} tokens is {tau / mean:.2g} of one"


def moved(trial: TrialResult, own: TrainerConfig, target: TrainerConfig) -> list[str]:
    """What to check again where `target` has another model or longer or shorter responses than the trial had."""
    limit, tau = target.rollout.max_response_length, None if own.fipo.is_dapo else own.fipo.tau
    if (target.model.path, limit) == (own.model.path, own.rollout.max_response_length):
        return []
    again = "look at them again" if own.fipo.is_dapo else "sweep fipo.half_life and the epsilon_f bounds"
    reach = f", of which that half-life is {tau / limit:.2g}" if tau is not None else ""
    return [
        f"NOT TUNED AT THIS SCALE: the fipo values were {tuned_on(trial, own)}.",
        f"Here {target.model.path} writes up to {limit:,} tokens{reach}. Nothing says that they are the best here as"
        f" well: {again} at this scale before a long run.",
    ]
