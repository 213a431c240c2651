"""What a run says about itself: its evaluations, and the metrics of each training step."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer import saturation
from trainer.digits import decimal
from trainer.errors import UserError

if TYPE_CHECKING:
    import polars


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

    def __str__(self) -> str:
        """Accuracy with its k and both errors, then the rest."""
        errors = "".join(f" {each.text} ({each.name})" for each in saturation.errors(self))
        return (
            f"{self.name}  avg@{self.samples} {decimal(self.accuracy)}{errors}"
            f"  cons@{self.samples} {decimal(self.cons)}  pass@{self.samples} {decimal(self.pass_at_k)}"
            f"  length {self.mean_length:.1f} tokens"
        )


class Look(BaseModel):
    """A racing evaluation under way: the set that selects, on the samples drawn so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    score: SetScore


class Evaluation(BaseModel):
    """The sets that were due after training step `step` (0 is the base model), each by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    seconds: float
    """Wall time of training and evaluation so far, also of the steps that a death had trained again."""
    tokens: int
    """Training tokens sampled so far."""
    scores: tuple[SetScore, ...]

    def __str__(self) -> str:
        """One line for each set."""
        return "\n".join(f"step {self.step:>4}  {score}" for score in self.scores)

    def score(self, set_name: str) -> SetScore | None:
        """The score of that set, None when it was not due at this step."""
        return next((score for score in self.scores if score.name == set_name), None)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a JSONL file; a last line without its newline is still being written and is left out."""
    return [json.loads(line) for line in _whole_lines(path)]


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a JSONL file, read from its end; empty before the first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 16384))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return {}
    return json.loads(lines[-1]) if lines else {}


def newest_metrics(directory: Path) -> dict[str, Any]:
    """What the run in `directory` wrote of its newest step; empty before the first."""
    return last_line(directory / "metrics.jsonl")


def run_seconds(directory: Path) -> float:
    """Wall time that the run in `directory` has taken, by its newest step, or by one that a rewind forgot; 0 before the
    first."""
    known = newest_metrics(directory), last_line(directory / _REWOUND)
    return max(float(each.get("seconds/total", 0.0)) for each in known)


def read_evaluations(directory: Path) -> list[Evaluation]:
    """The evaluations of the run in `directory`, in the order of their steps.

    Raises:
        UserError: another version of this project has written them, or they are damaged.
    """
    path = directory / "evaluations.jsonl"
    try:
        return [Evaluation.model_validate_json(line) for line in _whole_lines(path)]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path}: not as this version writes it ({where}: {first['msg']}); read it with the version that trained"
            " (environment.txt of the study)"
        ) from None


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [line for line in text[: text.rfind("\n") + 1].splitlines() if line.strip()]


_REWOUND = "rewound.jsonl"
"""Holds the seconds of the newest step that a rewind forgot: they were spent all the same."""


class Journal:
    """The files of one run: metrics.jsonl, evaluations.jsonl, outcomes/, completions/, checkpoints/. Rank 0 writes."""

    def __init__(self, directory: Path, *, writes: bool) -> None:
        """Make `directory`. Raises UserError where that cannot be done."""
        self.metrics, self.evaluations = directory / "metrics.jsonl", directory / "evaluations.jsonl"
        self.checkpoints = directory / "checkpoints"
        self.completions, self.outcomes = directory / "completions", directory / "outcomes"
        self.directory, self.writes = directory, writes
        if writes:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{directory}: cannot be made ({error.strerror}); choose another directory") from error

    def write_metrics(self, metrics: dict[str, float]) -> None:
        """Append one step."""
        self._append(self.metrics, metrics)

    def write_evaluation(self, evaluation: Evaluation) -> None:
        """Append one evaluation."""
        self._append(self.evaluations, evaluation.model_dump(mode="json"))

    def write_completions(self, step: int, frame: polars.DataFrame) -> None:
        """Write `completions/step-<n>.parquet` in one go."""
        self._write_table(self.completions, step, frame)

    def write_outcomes(self, step: int, frame: polars.DataFrame) -> None:
        """Write `outcomes/step-<n>.parquet` in one go."""
        self._write_table(self.outcomes, step, frame)

    def _write_table(self, folder: Path, step: int, frame: polars.DataFrame) -> None:
        if self.writes:
            folder.mkdir(exist_ok=True)
            partial = folder / f".step-{step:06d}.partial"
            frame.write_parquet(partial)
            partial.replace(folder / f"step-{step:06d}.parquet")

    def rewind(self, step: int) -> list[Evaluation]:
        """Forget everything after `step`, the last one whose weights were saved; the evaluations up to it."""
        kept = [each for each in read_evaluations(self.evaluations.parent) if each.step <= step]
        if self.writes:
            if self.metrics.exists():
                seconds = {"seconds/total": run_seconds(self.directory)}
                write_atomic(self.directory / _REWOUND, json.dumps(seconds) + "\n")  # before they are lost
            for path in (self.metrics, self.evaluations):
                lines = [json.dumps(line) + "\n" for line in read_lines(path) if line["step"] <= step]
                if path.exists():
                    write_atomic(path, "".join(lines))
            for table in (*self.completions.glob("step-*.parquet"), *self.outcomes.glob("step-*.parquet")):
                if int(table.stem.removeprefix("step-")) > step:
                    table.unlink()
        return kept

    def _append(self, path: Path, record: Mapping[str, object]) -> None:
        """One JSON line, non-finite floats as null. A crash may tear the last line, which `read_lines` leaves out."""
        if self.writes:
            clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(clean, allow_nan=False) + "\n")


def usual_mode() -> int:
    """The permissions that a new directory has; a temporary one is made for its owner alone."""
    os.umask(mask := os.umask(0))
    return 0o777 & ~mask


def write_atomic(path: Path, text: str) -> None:
    """Replace `path` by `text` in one go: temporary file, fsync, rename. When that fails, nothing is left of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def appearing(directory: Path) -> Iterator[Path]:
    """A hidden directory beside `directory`, which gets its name at the end of the block, or is removed."""
    partial = Path(tempfile.mkdtemp(dir=directory.absolute().parent, prefix=f".{directory.name}."))
    try:
        yield partial
        partial.chmod(usual_mode())
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
