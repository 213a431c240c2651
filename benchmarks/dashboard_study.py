"""A large finished study in the project's own format, made in seconds: for measuring the dashboard, not for reading.

Every file is what a real study writes (study.yaml, optuna.db, trials/NNNN/*); only the curves are invented.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
import yaml

from study.backend import open_storage
from study.directory import trial_directory
from study.spec import Plugin, StudySpec
from study.storage import create_study
from trainer.records import Evaluation, SetScore

STEPS, EVALUATIONS, PROBLEMS, SAMPLES = 500, 100, 30, 8
SPACE: dict[str, dict[str, Any]] = {
    "fipo.half_life": {"type": "log-uniform", "low": 4, "high": 1024},
    "fipo.epsilon_f_low": {"type": "uniform", "low": 0.0, "high": 0.5},
    "fipo.epsilon_f_high": {"type": "uniform", "low": 0.0, "high": 0.5},
    "optimizer.learning_rate": {"type": "log-uniform", "low": 1e-7, "high": 1e-5},
}
DAPO = {"fipo.half_life": 32.0, "fipo.epsilon_f_low": 0.0, "fipo.epsilon_f_high": 0.0, "optimizer.learning_rate": 1e-6}
METRICS = (
    *(f"response_length/{each}" for each in ("min", "q25", "mean", "median", "q75", "max", "truncated")),
    *("reward/mean", "rollout/accuracy", "sampled_batches", "groups_kept", "advantage/length_weighted_mean"),
    *("policy_kl", "grad_norm", "entropy", "clip_fraction", "dual_clip_fraction"),
    *(f"influence_weight/{each}" for each in ("mean", "min", "max", "clip_fraction")),
    *("future_kl/mean", "future_kl/noise_floor", "dropped_sequence_fraction", "loss", "learning_rate"),
    *(f"seconds/{each}" for each in ("rollout", "score", "update", "evaluation", "step")),
    *("tokens", "tokens_per_second", "memory/peak", "memory/weights", "workers", "minibatches", "padding"),
)


def write_large_study(directory: Path, *, trials: int, seed: int = 0) -> Path:
    """`trials` finished trials of 500 steps x 40 values and 100 evaluations x 30 problems; half of them were pruned.

    They are pruned at their last chance, so that every trial is of full size. The first is the DAPO control.
    """
    rng = np.random.default_rng(seed)
    (directory / "trials").mkdir(parents=True)
    sets = [{"name": "aime_2024", "path": "aime_2024.jsonl", "samples": SAMPLES, "every": STEPS // EVALUATIONS}]
    spec = StudySpec(
        name=directory.name, trials=trials, concurrency=8, sampler=Plugin(name="random"), space=SPACE,
        pruner=Plugin(name="median"), trainer={"steps": STEPS, "evaluation": {"sets": sets}},
    )  # fmt: skip
    (directory / "study.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    create_study(spec, directory)
    difficulty, rows = rng.normal(0, 1.2, PROBLEMS), []
    with open_storage(spec, directory, mode="rw") as storage:
        study = optuna.load_study(study_name=spec.name, storage=storage)
        distributions = {key: space.optuna() for key, space in spec.space.items()}
        for number in range(trials):
            params = DAPO if number == 0 else _sample(rng)
            last = STEPS if number == 0 or rng.random() < 0.5 else STEPS - STEPS // EVALUATIONS
            folder = directory / trial_directory(number)
            folder.mkdir()
            (folder / "config.yaml").write_text(yaml.safe_dump(spec.config(params).model_dump(mode="json")))
            progress = _progress(params, last, rng)
            values = _write_evaluations(folder, progress, difficulty, rng)
            _write_metrics(folder, progress, rng)
            _add_trial(study, distributions, number, params, values[last], last)
            rows += [(number + 1, step, value) for step, value in values.items()]
    # Through Optuna each value is a commit, ten minutes in all. The table is its own; so are the rows it would write.
    with sqlite3.connect(directory / "optuna.db") as database:
        insert = "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
        database.executemany(f"{insert} VALUES (?, ?, ?, 'FINITE')", rows)
    return directory


def _sample(rng: np.random.Generator) -> dict[str, float]:
    params = {}
    for key, space in SPACE.items():
        low, high = space["low"], space["high"]
        log = space["type"] == "log-uniform"
        params[key] = float(np.exp(rng.uniform(np.log(low), np.log(high))) if log else rng.uniform(low, high))
    return params


def _progress(params: dict[str, float], last: int, rng: np.random.Generator) -> np.ndarray:
    """How far a trial has come (0..1) after steps 0..last: the wider the upper bound, the faster."""
    speed = (1 + 4 * params["fipo.epsilon_f_high"]) * rng.uniform(0.8, 1.2)
    return 1 - np.exp(-speed * np.arange(last + 1) / STEPS)


def _write_evaluations(
    folder: Path, progress: np.ndarray, difficulty: np.ndarray, rng: np.random.Generator
) -> dict[int, float]:
    """`evaluations.jsonl`; the accuracy by step."""
    lines, values = [], {}
    for step in range(0, len(progress), STEPS // EVALUATIONS):
        chances = 1 / (1 + np.exp(2.5 - 3 * progress[step] + difficulty))
        solved = rng.binomial(SAMPLES, chances)
        rates, length = solved / SAMPLES, float(500 + 9000 * progress[step] * rng.uniform(0.95, 1.05))
        values[step] = float(rates.mean())
        score = SetScore(
            name="aime_2024", samples=SAMPLES, solved=tuple(solved.tolist()), accuracy=values[step],
            sampling_error=float(np.sqrt((rates * (1 - rates) / (SAMPLES - 1)).sum()) / PROBLEMS),
            problem_error=float(rates.std(ddof=1) / np.sqrt(PROBLEMS)), cons=float((rates > 0.5).mean()),
            pass_at_k=float((solved > 0).mean()), mean_length=length, truncated=0.01,
            length_quantiles=(length * 0.3, length * 0.7, length * 0.95, length * 1.2, length * 1.9),
        )  # fmt: skip
        lines.append(Evaluation(step=step, seconds=60.0 * step, tokens=10**6 * step, scores=(score,)).model_dump_json())
    (folder / "evaluations.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return values


def _write_metrics(folder: Path, progress: np.ndarray, rng: np.random.Generator) -> None:
    steps = np.arange(1, len(progress), dtype=np.float64)
    noise = rng.uniform(0.9, 1.1, (len(METRICS), len(steps)))
    columns = {"step": steps} | {name: progress[1:] * row for name, row in zip(METRICS, noise, strict=True)}
    pl.DataFrame(columns).write_ndjson(folder / "metrics.jsonl")


def _add_trial(
    study: optuna.Study, distributions: dict[str, Any], number: int, params: dict[str, float], value: float, last: int
) -> None:
    done = last == STEPS
    attributes: dict[str, Any] = {"directory": str(trial_directory(number))}
    attributes |= {"control": "DAPO"} if number == 0 else {}
    attributes |= {} if done else {"pruned_at": last}
    trial = optuna.create_trial(
        state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.PRUNED, params=params,
        distributions=distributions,
        value=value if done else None, user_attrs=attributes,
    )  # fmt: skip
    trial.datetime_start = started = datetime(2026, 1, 1) + timedelta(hours=number // 8)
    trial.datetime_complete = started + timedelta(minutes=55 * last / STEPS)
    study.add_trial(trial)
