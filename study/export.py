"""Export: the best trial's complete config as YAML, headed by where it comes from."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from study.metric import metric_value, selecting_score
from study.results import StudyResults, TrialResult
from study.storage import write_atomically
from trainer.config import TrainerConfig
from trainer.errors import UserError, read_yaml, validate


def choose_trial(results: StudyResults, number: int | None) -> TrialResult:
    """Trial `number`, or the best COMPLETE trial for None. Raises UserError when there is none to export."""
    numbers = [trial.number for trial in results.trials if (trial.directory / "config.yaml").exists()]
    if number is not None:
        found = next((trial for trial in results.trials if trial.number == number and number in numbers), None)
        if found is None:
            span = f"{min(numbers)} to {max(numbers)}" if numbers else "none yet"
            raise UserError(f"--trial {number}: {results.directory} has no such trial; allowed: {span}")
        return found
    if results.best is None:
        states = ", ".join(sorted({trial.state for trial in results.trials})) or "no trial yet"
        raise UserError(
            f"{results.directory}: no trial is COMPLETE ({states}); wait for one, or name a trial with --trial N"
        )
    return results.best


def export_yaml(results: StudyResults, trial: TrialResult) -> str:
    """The trial's complete TrainerConfig as YAML text below a comment of provenance.

    The numbers are those of the last evaluation: mean, then the standard error from sampling k responses of these
    problems and the one across problems.
    """
    path = trial.directory / "config.yaml"
    validate(TrainerConfig, read_yaml(path), source=str(path))
    lines = [
        f"Study {results.spec.name}, trial {trial.number}" + (f" (control {trial.control})" if trial.control else ""),
        f"from {results.directory.absolute().name}, exported {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"state {trial.state}, chosen among {len(results.trials)} trials by {results.metric_name}",
        *_scores(results, trial),
        *_packages(),
        "",
        "Train it again: fipo train THIS_FILE",
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + path.read_text(encoding="utf-8")


def export_best(results: StudyResults, *, number: int | None, out: Path) -> TrialResult:
    """Write `export_yaml` of a trial to `out`. Raises UserError when `out` exists or cannot be written."""
    trial = choose_trial(results, number)
    if out.exists():
        raise UserError(f"--out {out} exists; choose another name, or remove it first")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the directory {out.parent} does not exist; make it, or choose another place")
    write_atomically(out, export_yaml(results, trial))
    return trial


def _scores(results: StudyResults, trial: TrialResult) -> list[str]:
    if not trial.evaluations:
        return ["not evaluated yet"]
    last = trial.evaluations[-1]
    selecting = results.spec.evaluation_config().sets[0].name
    lines = []
    for score in last.scores:
        role = "selected on" if score.name == selecting else "only reported"
        lines.append(
            f"{score.name} ({role}) at step {last.step}: avg@{score.samples} {score.accuracy:.4f}"
            f" +- {score.sampling_error:.4f} (sampling) +- {score.problem_error:.4f} (across"
            f" {len(score.solved)} problems), mean length {score.mean_length:.1f} tokens"
        )
    chosen = selecting_score(last, selecting)
    if chosen is not None and results.spec.metric != "avg@k":
        lines.append(f"{results.metric_name} {metric_value(chosen, results.spec.metric):.4f}")
    lines.append("a value that was selected on is the highest of many and is high partly by chance")
    return lines


def _packages() -> list[str]:
    return ["made with " + ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "optuna"))]
