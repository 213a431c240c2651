"""All trials of a study as one JSON object or one CSV row each."""

from __future__ import annotations

import dataclasses
import json

import polars

from study.against import seed_means_reported
from study.clock import now, with_zone
from study.environment import environment
from study.evidence import Evidence
from study.export.provenance import trained_with
from study.export.recipe import trial_config
from study.export.selection import no_estimate, split_half
from study.results import StudyResults, TrialResult
from study.seeds import seeds_against_settings
from study.spec import StudySpec
from study.tables import bounds, evaluation_row


def as_json(results: StudyResults) -> str:
    """The study with its complete spec, what its seeds say, and each trial with every evaluation."""
    estimate, seeds, reported = split_half(results), _seeds(results), seed_means_reported(results)
    whole = {
        "study": published(results.spec),
        "metric": results.metric_name,
        "best": results.best.number if results.best else None,
        "selection_corrected": {
            "method": "split halves over problems",
            "value": estimate.corrected,
            "selected": estimate.selected,
            "candidates": estimate.candidates,
            "halvings": estimate.halvings,
        }
        if estimate
        else {"method": None, "reason": no_estimate(results)},
        "seeds_against_settings": seeds_against_settings(results.evidence),
        "exported": now(),
        "trained_with": trained_with(results),
        "exported_with": environment(),
        "trials": [
            _row(results, trial, seeds)
            | {
                "only_reported": {name: mean._asdict() for name, mean in reported.get(trial.number, {}).items()},
                "evaluations": [evaluation_row(each) for each in trial.evaluations],
            }
            for trial in results.trials
        ],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(results: StudyResults) -> str:
    """One row per trial: state, sampled values, each set's newest scores with both errors, and where it comes from."""
    rows, origin, seeds, reported = [], _origin(results), _seeds(results), seed_means_reported(results)
    for trial in results.trials:
        row = _row(results, trial, seeds)
        for name in ("params", "beside"):
            row |= {f"{name}.{key}": value for key, value in row.pop(name).items()}
        for evaluation in trial.evaluations:
            for score in evaluation.scores:
                row[f"{score.name}.step"] = evaluation.step
                row |= {
                    f"{score.name}.{field}": getattr(score, field)
                    for field in (
                        "samples", "accuracy", "sampling_error", "problem_error", "cons", "pass_at_k", "mean_length",
                        "truncated",
                    )
                }  # fmt: skip
                row |= {f"{score.name}.{field}": value for field, value in bounds(score).items()}
        for name, again in reported.get(trial.number, {}).items():
            row |= {f"{name}.mean_over_seeds": again.mean, f"{name}.seed_error": again.seed_error}
        rows.append({key: _safe(value) for key, value in (row | origin).items()})
    return polars.DataFrame(rows, infer_schema_length=None).write_csv()


def published(spec: StudySpec) -> dict[str, object]:
    """The spec without the addresses that it sends its news to, which may hold a token and change no number."""
    return spec.model_dump(mode="json", exclude={"notify", "tracking"})


def _origin(results: StudyResults) -> dict[str, object]:
    """The same in every row: a table is often split or joined with those of other studies."""
    estimate = split_half(results)
    evaluation = results.spec.evaluation_config()
    return {
        "study": results.spec.name,
        "metric": results.metric_name,
        "study_seed": results.spec.seed,
        **{f"{each.name}.path": each.path for each in evaluation.sets},
        "selection_corrected": estimate.corrected if estimate else None,
        "selection_method": str(estimate) if estimate else f"none, since {no_estimate(results)}",
        "exported": now(),
        "trained_with": trained_with(results),
        "exported_with": environment(),
    }


def _seeds(results: StudyResults) -> dict[int, Evidence]:
    """What the seeds of a configuration say, by its trial."""
    return {each.number: each for each in results.evidence}


def _row(results: StudyResults, trial: TrialResult, seeds: dict[int, Evidence]) -> dict:
    own = seeds.get(trial.number)
    return {
        "number": trial.number,
        "state": results.state(trial),
        "control": trial.control,
        "enqueued": trial.enqueued,
        "confirms": trial.confirms,
        "value": trial.value,
        "fresh_seeds": len(own.fresh) if own else None,
        "seeds_lost": ", ".join(own.lost) or None if own else None,
        "mean_over_seeds": own.mean if own and own.fresh else None,
        "seed_error": own.seed_error if own else None,
        "steps_done": trial.steps_done,
        "pruned_at": trial.pruned_at,
        "fail_reason": trial.fail_reason,
        "stop_reason": trial.stop_reason,
        "started": with_zone(trial.started),
        "ended": with_zone(trial.ended),
        **dataclasses.asdict(trial.usage),
        "directory": trial.directory.name,
        "params": dict(trial.params),
        "beside": dict(trial.beside),
        **_run(trial),
    }


def _run(trial: TrialResult) -> dict[str, object]:
    """Training seed, model and data; nothing for a trial that has not begun."""
    if not (trial.directory / "config.yaml").exists():
        return {}
    config = trial_config(trial)
    return {"seed": config.seed, "model": config.model.path, "training_data": config.data.train}


def _safe(value: object) -> object:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
