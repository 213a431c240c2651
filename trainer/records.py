"""What a run says about itself: the evaluation record, the only thing a study needs of a trial."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class SetScore(BaseModel):
    """One evaluation set at one step. Accuracies are fractions 0..1, lengths are response tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    samples: int
    """k, responses per problem."""
    solved: tuple[int, ...]
    """Correct responses of each problem, each 0..k, in the set's order."""
    accuracy: float
    """avg@k: the mean over problems of the fraction of correct responses."""
    sampling_error: float | None
    """Standard error of avg@k from drawing k responses to these very problems; None for k = 1."""
    problem_error: float | None
    """Standard error of avg@k as an estimate for the population the problems were drawn from; None for one problem."""
    cons: float
    """cons@k: accuracy of the majority answer."""
    pass_at_k: float
    """Fraction of problems with at least one correct response among k."""
    mean_length: float
    length_quantiles: tuple[float, float, float, float, float]
    """Minimum, quartiles and maximum of the response length."""
    truncated: float
    """Fraction of responses cut at `rollout.max_response_length`."""


class Evaluation(BaseModel):
    """All sets evaluated after training step `step` (0 is the base model). The first score is the one that selects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    seconds: float
    """Wall time since the run began."""
    tokens: int
    """Training tokens sampled so far."""
    scores: tuple[SetScore, ...]


def append_line(path: Path, record: dict[str, object]) -> None:
    """Append one JSON line, non-finite floats as null. `read_lines` skips a torn last line, left by a crash."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(clean, allow_nan=False) + "\n")


def read_lines(path: Path) -> list[dict[str, object]]:
    """Read the whole lines of a JSONL file; a last line without its newline is still being written and is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line.strip()]


def read_evaluations(directory: Path) -> list[Evaluation]:
    """The evaluations of the run in `directory`, in the order of their steps."""
    return [Evaluation.model_validate(line) for line in read_lines(directory / "evaluations.jsonl")]
