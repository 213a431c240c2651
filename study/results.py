"""Reading a study: its spec, trials and evaluations. Needs no Ray, writes nothing, works while the study runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from study.spec import StudySpec
from study.storage import DEFAULT_PARENT, rdb_storage, trial_directory
from trainer.errors import UserError, root_line
from trainer.records import Evaluation, read_evaluations, read_lines

if TYPE_CHECKING:
    import polars
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class TrialResult:
    """One trial as far as it has come."""

    number: int
    state: str
    """WAITING, RUNNING, COMPLETE, PRUNED or FAIL."""
    params: dict[str, float | int | str | bool]
    """Sampled values by dotted trainer key."""
    control: str | None
    """Label of an enqueued control, for example DAPO."""
    value: float | None
    """The study's metric after the last step; None unless COMPLETE."""
    pruned_at: int | None
    """Training step of the pruning."""
    fail_reason: str | None
    """One line."""
    started: datetime | None
    ended: datetime | None
    directory: Path
    evaluations: tuple[Evaluation, ...]
    """In the order of their steps."""

    @property
    def steps_done(self) -> int:
        """Training steps finished so far."""
        return _last_step(self.directory / "metrics.jsonl")


@dataclass(frozen=True)
class StudyResults:
    """A study as far as it has come."""

    directory: Path
    spec: StudySpec
    trials: tuple[TrialResult, ...]

    @property
    def metric_name(self) -> str:
        """What is maximized, for example ``sums_select/avg@8``."""
        return self.spec.metric_name()

    @property
    def best(self) -> TrialResult | None:
        """The COMPLETE trial with the highest value, the earliest of equals; None while there is none."""
        complete = [trial for trial in self.trials if trial.state == "COMPLETE" and trial.value is not None]
        return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)


def find_study(path: Path | None) -> Path:
    """`path` if it is a study directory, the newest one under ./studies for None. Raises UserError otherwise."""
    if path is not None:
        if not path.exists():
            raise UserError(f"{path}: no such directory; give a study directory, or start one with: fipo launch")
        if not (path / "study.yaml").exists():
            raise UserError(f"{path}: is not a study (it has no study.yaml); give a directory that fipo launch made")
        return path
    found = [each.parent for each in DEFAULT_PARENT.glob("[!.]*/study.yaml")]
    if not found:
        raise UserError(f"./{DEFAULT_PARENT}: holds no study; give a study directory, or start one with: fipo launch")
    return max(found, key=lambda directory: (directory / "study.yaml").stat().st_mtime)


def read_study(directory: Path) -> StudyResults:
    """Everything known of the study in `directory`. Raises UserError when there is no readable study."""
    find_study(directory)
    spec = StudySpec.from_file(directory / "study.yaml")
    return collect(directory, spec, _frozen_trials(directory, spec.name))


def collect(directory: Path, spec: StudySpec, trials: Iterable[FrozenTrial]) -> StudyResults:
    """The results of a study whose Optuna trials are at hand."""
    return StudyResults(directory=directory, spec=spec, trials=tuple(_result(directory, each) for each in trials))


def read_metrics(trial: TrialResult) -> polars.DataFrame:
    """The trial's `metrics.jsonl`, one row per training step; empty while there is none."""
    import polars

    return polars.DataFrame(read_lines(trial.directory / "metrics.jsonl"), infer_schema_length=None)


def _frozen_trials(directory: Path, name: str) -> list[FrozenTrial]:
    if not (directory / "optuna.db").exists():
        return []
    import optuna
    from sqlalchemy.exc import DatabaseError

    try:
        storage = rdb_storage(directory, mode="ro")
        trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    except (KeyError, DatabaseError, optuna.exceptions.StorageInternalError) as error:
        if (directory / "optuna.db").stat().st_size == 0 or isinstance(error, KeyError):
            return []  # still being made
        raise UserError(
            f"{directory / 'optuna.db'}: cannot be read ({root_line(error)}); is it a study's database?"
        ) from None
    storage.engine.dispose()
    return trials


def _result(directory: Path, trial: FrozenTrial) -> TrialResult:
    attributes = trial.user_attrs
    own = directory / attributes.get("directory", trial_directory(trial.number))
    return TrialResult(
        number=trial.number,
        state=trial.state.name,
        params=dict(trial.params) or dict(trial.system_attrs.get("fixed_params", {})),
        control=attributes.get("control"),
        value=trial.value if trial.state.name == "COMPLETE" else None,
        pruned_at=attributes.get("pruned_at") if trial.state.name == "PRUNED" else None,
        fail_reason=attributes.get("fail_reason"),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        directory=own,
        evaluations=_evaluations(own, _stamp(own / "evaluations.jsonl")),
    )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _evaluations(directory: Path, stamp: tuple[int, int]) -> tuple[Evaluation, ...]:
    """The evaluations as of `stamp`; a display that reads each second parses only what grew."""
    return tuple(read_evaluations(directory)) if stamp != (0, 0) else ()


def _last_step(path: Path) -> int:
    """The step of the last whole line, read from the end of the file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 16384))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return 0
    return int(json.loads(lines[-1])["step"]) if lines else 0
