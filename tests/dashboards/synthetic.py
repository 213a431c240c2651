"""Studies made up in the project's own format: real YAML, a real Optuna database, real JSON lines, invented curves.

Accuracy and length rise together, high learning rates collapse, and Optuna's median pruner stops what falls behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import polars as pl
import yaml

from study.lock import driver_lock
from study.results import StudyResults
from study.samplers import make_sampler
from study.spec import Control, Plugin, StudySpec
from study.storage import create_study, driving
from trainer.records import Evaluation, Journal, SetScore

SPACE: dict[str, dict[str, Any]] = {
    "fipo.half_life": {"type": "log-uniform", "low": 4, "high": 64},
    "fipo.epsilon_f_low": {"type": "uniform", "low": 0.0, "high": 0.4},
    "fipo.epsilon_f_high": {"type": "uniform", "low": 0.0, "high": 0.4},
    "optimizer.learning_rate": {"type": "log-uniform", "low": 5e-5, "high": 2e-3},
}
DAPO = {
    "fipo.half_life": 32.0,
    "fipo.epsilon_f_low": 0.0,
    "fipo.epsilon_f_high": 0.0,
    "optimizer.learning_rate": 1.5e-4,
}
SETS = ("sums_select", "sums_report")


class SyntheticStudy:
    """A study under construction: `begin` a trial, then `run` it to its end or `fail` it, as a driver would."""

    def __init__(
        self, directory: Path, *, trials: int = 12, steps: int = 40, every: int = 5, problems: int = 30,
        samples: int = 8, seed: int = 0, name: str = "synthetic", control: str = "DAPO", metrics: bool = True,
        text: str = "2+4=6\n\\boxed{6}", storage: str = "sqlite",
    ) -> None:  # fmt: skip
        self.directory, self.problems, self.samples, self.metrics = directory, problems, samples, metrics
        self.text = text
        (directory / "trials").mkdir(parents=True)
        sets = [{"name": SETS[0], "path": "embedded:select", "samples": samples, "every": every},
                {"name": SETS[1], "path": "embedded:report", "samples": samples, "every": 1_000_000}]  # fmt: skip
        self.spec = StudySpec(
            name=name, trials=trials, concurrency=2, seed=seed, storage=storage,
            sampler=Plugin(name="random", seed=seed),
            pruner=Plugin(name="median", n_startup_trials=4, n_warmup_steps=every), space=SPACE,
            enqueue=(Control(label=control, values=DAPO),), trainer={"steps": steps, "evaluation": {"sets": sets}},
        )  # fmt: skip
        self.steps, self.every = steps, every
        (directory / "study.yaml").write_text(self.spec.to_yaml(), encoding="utf-8")
        create_study(self.spec, directory)
        self._driver = contextlib.ExitStack()
        weakref.finalize(self, self._driver.close)
        self._driver.enter_context(driver_lock(directory))
        self.study = self._driver.enter_context(driving(self.spec, directory))

    def close(self) -> None:
        """Let go of the study, as a driver does at its end: what still runs counts as stopped."""
        self._driver.close()

    def begin(self) -> optuna.Trial:
        """Ask Optuna for a trial and lay out its directory with a complete config."""
        self.study.sampler = make_sampler(self.spec, len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask({key: space.optuna() for key, space in self.spec.space.items()})
        folder = self.folder(trial)
        folder.mkdir()
        trial.set_user_attr("directory", str(folder.relative_to(self.directory)))
        config = self.spec.config(trial.params).model_dump(mode="json")
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        return trial

    def confirm(self, number: int, *, seed: int) -> None:
        """Train the configuration of trial `number` again with another seed, to its end."""
        params = self.study.trials[number].params
        self.study.enqueue_trial(params, user_attrs={"confirms": number, "fixed": {"seed": seed}})
        trial = self.begin()
        self.study.pruner = optuna.pruners.NopPruner()
        self.run(trial)

    def folder(self, trial: optuna.Trial) -> Path:
        """Where the trial's lines lie."""
        return self.directory / "trials" / f"{trial.number:04d}"

    def run(self, trial: optuna.Trial, *, after: int = -1, until: int | None = None) -> None:
        """Write the lines of the steps in (`after`, `until`]; without `until`, to the end that Optuna is told."""
        rng = np.random.default_rng([1, trial.number, after + 1])
        for step in range(after + 1, (self.steps if until is None else until) + 1):
            accuracy, length, fallen = self._curve(trial, step, rng)
            tokens = int(256 * 25 * step)
            if step and self.metrics:
                own = np.random.default_rng([99, trial.number, step])  # one more metric changes nothing else
                self._journal(trial).write_metrics(_metrics(step, length, accuracy, fallen, tokens, own))
            if step % self.every and step != self.steps:
                continue
            value = self._evaluate(trial, step, accuracy, length, tokens, rng)
            if step:
                self._journal(trial).write_completions(step, completions(step, text=self.text))
            if trial.should_prune():
                trial.set_user_attr("pruned_at", step)
                self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return
        if until is None:
            self.study.tell(trial, value)

    def fail(self, trial: optuna.Trial, reason: str) -> None:
        """Tell Optuna that the trial failed."""
        trial.set_user_attr("fail_reason", reason)
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _journal(self, trial: optuna.Trial) -> Journal:
        return Journal(self.folder(trial), writes=True)

    def _curve(self, trial: optuna.Trial, step: int, rng: np.random.Generator) -> tuple[float, float, float]:
        """Accuracy, mean length, and how far a collapse has gone (0..1)."""
        rate = trial.params["optimizer.learning_rate"]
        speed = 2.5 * (0.6 + 1.3 * trial.params["fipo.epsilon_f_high"]) * min(1.0, (rate / 1.5e-4) ** 0.5)
        progress = 1 - np.exp(-speed * step / self.steps)
        collapse = np.inf if rate < 7e-4 else max(2.0, 0.45 * self.steps * 1e-3 / rate)
        fallen = min(max((step - collapse) / (0.15 * self.steps), 0.0), 1.0)
        length = 21 + 12 * progress + 26 * fallen + 0.3 * rng.normal()
        return float((0.2 + 0.68 * progress) * (1 - fallen) + 0.03 * fallen), float(length), float(fallen)

    def _evaluate(self, trial: optuna.Trial, step: int, accuracy: float, length: float, tokens: int,
                  rng: np.random.Generator) -> float:  # fmt: skip
        difficulty = np.random.default_rng(99).normal(0, 1.2, (2, self.problems))
        sets = SETS if step in (0, self.steps) else SETS[:1]
        scores = tuple(_score(name, accuracy, length, difficulty[i], self.samples, rng) for i, name in enumerate(sets))
        evaluation = Evaluation(step=step, seconds=0.6 * step + 1, tokens=tokens, scores=scores)
        self._journal(trial).write_evaluation(evaluation)
        trial.report(scores[0].accuracy, step)
        return scores[0].accuracy


def write_study(directory: Path, *, trials: int = 12, **options: Any) -> Path:
    """A finished study of `trials` trials; options as of `SyntheticStudy`."""
    study = SyntheticStudy(directory, trials=trials, **options)
    for _ in range(trials):
        study.run(study.begin())
    study.close()
    return directory


def ended_early(results: StudyResults, number: int, *, step: int, samples: int) -> StudyResults:
    """The study as if `number` had been pruned at `step` on the first `samples` of its responses (see `first_look`)."""
    trial = results.trials[number]
    kept = [each for each in trial.evaluations if each.step <= step]
    score = kept[-1].scores[0]
    solved = [min(round(each * samples / score.samples), samples) for each in score.solved]
    part = _scored(score.name, solved, samples, score.mean_length)
    kept[-1] = kept[-1].model_copy(update={"scores": (part, *kept[-1].scores[1:])})
    stopped = dataclasses.replace(trial, state="PRUNED", pruned_at=step, value=None, evaluations=tuple(kept))
    return dataclasses.replace(results, trials=(*results.trials[:number], stopped, *results.trials[number + 1 :]))


def completions(step: int, *, text: str, problem: str = "2+4=") -> pl.DataFrame:
    """A right and a wrong response of one token per character, in the trainer's columns."""
    rows = []
    for correct, advantage in ((True, 0.7), (False, -0.7)):
        written = text if correct else text + "!"
        weights = [1 + 0.1 * np.sin(i + step) for i in range(len(written))]
        rows.append(
            {"step": step, "problem": problem, "answer": "6", "response": written,
             "prediction": "6" if correct else None, "correct": correct,
             "reward": 1.0 if correct else -1.0, "advantage": advantage, "length": len(written),
             "finished": True, "tokens": list(written), "log_ratio": [0.01 * (w - 1) for w in weights],
             "influence_weight": weights}
        )  # fmt: skip
    lists = dict.fromkeys(("log_ratio", "influence_weight"), pl.List(pl.Float32))
    return pl.DataFrame(rows, schema_overrides={"prediction": pl.String, **lists})


def _score(
    name: str, accuracy: float, length: float, difficulty: np.ndarray, samples: int, rng: np.random.Generator
) -> SetScore:
    clipped = min(max(accuracy, 0.01), 0.99)
    chances = 1 / (1 + np.exp(-(np.log(clipped / (1 - clipped)) + difficulty)))
    return _scored(name, rng.binomial(samples, chances), samples, length)


def _scored(name: str, solved: Sequence[int] | np.ndarray, samples: int, length: float) -> SetScore:
    rates = np.asarray(solved) / samples
    return SetScore(
        name=name, samples=samples, solved=tuple(int(each) for each in solved), accuracy=float(rates.mean()),
        sampling_error=float(np.sqrt((rates * (1 - rates) / (samples - 1)).sum()) / len(rates)),
        problem_error=float(rates.std(ddof=1) / np.sqrt(len(rates))),
        cons=float((rates > 0.5).mean()), pass_at_k=float((rates > 0).mean()), mean_length=float(length),
        length_quantiles=(length * 0.5, length * 0.8, length * 0.97, length * 1.2, min(64.0, length * 1.7)),
        truncated=float(max(0.0, (length - 50) / 20)),
    )  # fmt: skip


def _metrics(
    step: int, length: float, accuracy: float, fallen: float, tokens: int, rng: np.random.Generator
) -> dict[str, float]:
    def noisy(value: float, share: float = 0.05) -> float:
        return float(value * (1 + share * rng.normal()))

    return {
        "step": step,
        "response_length/min": noisy(length * 0.4),
        "response_length/q25": noisy(length * 0.8),
        "response_length/mean": length,
        "response_length/median": noisy(length * 0.97),
        "response_length/q75": noisy(length * 1.2),
        "response_length/max": 64.0,
        "response_length/truncated": 0.3 * fallen,
        "reward/mean": noisy(2 * accuracy - 1),
        "rollout/accuracy": noisy(accuracy),
        "sampled_batches": 1.0,
        "groups_kept": 20.0,
        "advantage/length_weighted_mean": 0.05 * float(rng.normal()),
        "policy_kl": noisy(2e-3 + 0.2 * fallen),
        "grad_norm": noisy(0.4 + 5 * fallen),
        "entropy": noisy(0.5 - 0.3 * accuracy + fallen),
        "clip_fraction": noisy(0.01 + 0.1 * fallen),
        "dual_clip_fraction": noisy(0.004 * fallen),
        "influence_weight/mean": noisy(1.01, 0.01),
        "influence_weight/min": 0.8,
        "influence_weight/max": 1.2,
        "influence_weight/clip_fraction": noisy(0.3),
        "future_kl/mean": 0.01 * float(rng.normal()),
        "future_kl/noise_floor": 1e-7,
        "dropped_sequence_fraction": 0.05 * fallen,
        "rollout_gap/mean": 1e-7,
        "loss": 0.01 * float(rng.normal()),
        "learning_rate": 1.5e-4,
        "seconds/rollout": 0.3,
        "seconds/score": 0.05,
        "seconds/update": 0.2,
        "seconds/evaluation": 0.1,
        "seconds/step": 0.6,
        "seconds/total": 0.6 * step + 1,
        "tokens": float(tokens),
        "tokens_per_second": noisy(14_000.0),
    }


def with_gamma(results: StudyResults, *, best: float | None = None) -> StudyResults:
    """The study as if it had swept gamma and not the half-life; `best` is the gamma of its best trial."""
    space = {"fipo.gamma": {"type": "uniform", "low": 0, "high": 1}} | results.spec.model_dump()["space"]
    del space["fipo.half_life"]
    trials = []
    for trial in results.trials:
        params = {key: value for key, value in trial.params.items() if key != "fipo.half_life"}
        gamma = 2 ** (-1 / cast(float, trial.params["fipo.half_life"]))
        given = best if best is not None and trial is results.best else gamma
        trials.append(dataclasses.replace(trial, params=params | {"fipo.gamma": given}))
    spec = StudySpec.model_validate(results.spec.model_dump() | {"space": space, "enqueue": ()})
    return dataclasses.replace(results, spec=spec, trials=tuple(trials))
