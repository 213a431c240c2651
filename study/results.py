"""Reading a study: its spec, trials and evaluations. Needs no Ray, writes nothing, works while the study runs."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import attributes
from study.budget import NOTHING, Usage, usage_of, usage_so_far
from study.controls import given, is_control
from study.directory import DEFAULT_PARENT, trial_directory
from study.evidence import Evidence, Run, evidence, firsts
from study.lock import Driver, driver
from study.metric import completed_value
from study.running import BY_HAND
from study.space import Value
from study.spec import StudySpec
from study.storage import read_trials
from trainer.errors import UserError
from trainer.records import Evaluation, SetScore, newest_metrics, read_evaluations, read_lines

if TYPE_CHECKING:
    import polars
    from optuna.trial import FrozenTrial

    from trainer.config import TrainerConfig

ENDED = ("COMPLETE", "PRUNED", "FAIL")
"""States of a trial that goes on no more."""
RAN = ("COMPLETE", "PRUNED")
"""Those of trials that took as long as they were to take; one that failed says nothing of the others."""


@dataclass(frozen=True)
class TrialResult:
    """One trial as far as it has come."""

    number: int
    state: str
    """WAITING, RUNNING, COMPLETE, PRUNED or FAIL. RUNNING without a driver: it goes on when the study is resumed."""
    params: dict[str, Value]
    """Sampled values by dotted trainer key."""
    control: str | None
    """Label of a control of the study's file, for example DAPO."""
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
    stop_reason: str | None = None
    """Why a PRUNED trial was stopped, when it was not the pruner: it collapsed, or by hand."""
    pruner_reason: str | None = None
    """What the pruner `aime` decided last, in one line with its numbers; None under other pruners."""
    confirms: int | None = None
    """The trial whose configuration this one trains again with another seed."""
    usage: Usage = NOTHING
    """What the trial has taken, up to its newest step."""
    deaths: int = 0
    """How often a process of it died, so that it was started again from its checkpoint."""
    starting: bool = False
    """RUNNING, and has told nothing since it was started or lost a process: it waits for room, or loads its model."""
    enqueued: str | None = None
    """Label of a trial that `fipo enqueue` added: it is no control."""
    beside: dict[str, Any] = field(default_factory=dict)
    """Values that it was given for keys that the space does not have: a control's, or the seed of a confirmation."""

    @property
    def unswept(self) -> dict[str, Any]:
        """Its settings that no other trial has, but for a seed: with them it says nothing of what is swept."""
        return {key: value for key, value in self.beside.items() if key != "seed"}

    @property
    def steps_done(self) -> int:
        """Training steps finished so far."""
        return int(self._newest_metrics.get("step", 0))

    @functools.cached_property
    def _newest_metrics(self) -> dict[str, Any]:
        return newest_metrics(self.directory)

    @property
    def settings(self) -> dict[str, Any]:
        """Its values by dotted key: those of the space, and those beside it."""
        return {**self.params, **self.beside}

    def scores(self, set_name: str) -> dict[int, SetScore]:
        """What its evaluations of a set gave, by training step in ascending order."""
        found = ((each.step, each.score(set_name)) for each in self.evaluations)
        return {step: score for step, score in found if score is not None}

    def newest(self, set_name: str) -> SetScore | None:
        """Its newest score of a set; None before the first."""
        return next(reversed(self.scores(set_name).values()), None)


@dataclass(frozen=True)
class StudyResults:
    """A study as far as it has come."""

    directory: Path
    spec: StudySpec
    trials: tuple[TrialResult, ...]
    driver: Driver | None = None
    """The process that drives the study now."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the local problem files when the study began, by path; not read by the driver itself."""

    @property
    def metric_name(self) -> str:
        """What is maximized, for example ``sums_select/avg@8``."""
        return self.spec.metric_name()

    @property
    def waits(self) -> str | None:
        """Why trials wait, for room or for a driver that is silent; None while none does."""
        return self.driver.waits if self.driver is not None else None

    @property
    def ended(self) -> int:
        """Trials that go on no more."""
        return sum(trial.state in ENDED for trial in self.trials)

    def state(self, trial: TrialResult) -> str:
        """Optuna's state of `trial`, or STOPPED: it has begun, not ended, and no driver runs it until a resume."""
        return "STOPPED" if trial.state == "RUNNING" and self.driver is None else trial.state

    def at_rest(self) -> StudyResults:
        """The same without a driver: what has not ended is STOPPED. Its process may be there still, and run nothing."""
        return replace(self, driver=None)

    @property
    def planned(self) -> int:
        """Trials that the study will have, confirmations among them, if all that have not ended complete."""
        confirming = sum(trial.confirms is not None for trial in self.trials)
        return self.searching + max(confirming, self._to_confirm)

    @property
    def searching(self) -> int:
        """Trials that it will have beside confirmations: `trials`, or those that had begun when that was lowered."""
        return max(self.spec.trials, sum(trial.state != "WAITING" for trial in self.trials if trial.confirms is None))

    @property
    def _to_confirm(self) -> int:
        """Runs of confirmed configurations and controls; see `study.replicas.confirmations`."""
        replicas = self.spec.replicas
        if replicas is None:
            return 0
        own = [trial for trial in self.trials if trial.confirms is None]
        own = sorted(own, key=lambda trial: trial.state == "WAITING")[: self.searching]  # the others never begin
        alive = {*_firsts(trial for trial in own if trial.state not in ("PRUNED", "FAIL")).values()}
        controls = sum(trial.number in alive for trial in own if trial.control)
        sampled = len(alive) - controls + self.searching - len(own)
        return replicas.seeds * replicas.confirmed(sampled, controls)

    @functools.cached_property
    def evidence(self) -> list[Evidence]:
        """The completed configurations, best first; with confirmations, by their mean over seeds. What another trial
        repeats stands once, by the first."""
        ended = (each for each in self.trials if each.state in ENDED and each.number not in self.repeats)
        return evidence(
            Run(each.number, each.value, self.confirmed_by(each), self.seed(each), _lost(each), self._minimized(each))
            for each in ended
        )

    @functools.cached_property
    def repeats(self) -> dict[int | None, int]:
        """Of each COMPLETE trial that has the settings of a control, or of one before it, that one's number."""
        complete = (each for each in self.trials if each.state == "COMPLETE" and each.confirms is None)
        return {number: first for number, first in _firsts(complete).items() if number != first}

    def confirmed_by(self, trial: TrialResult) -> int | None:
        """The trial by which what `trial` confirms stands in `evidence`; None if it confirms none."""
        return self.repeats.get(trial.confirms, trial.confirms)

    def _minimized(self, trial: TrialResult) -> float:
        score = trial.newest(self.spec.selecting.name) if self.spec.against else None
        return score.mean_length if score is not None else 0.0

    def config(self, trial: TrialResult) -> TrainerConfig:
        """What `trial` is trained with. Raises UserError when it is no valid config."""
        return self.spec.config(trial.settings)

    def seed(self, trial: TrialResult) -> int:
        """What `trial` is trained with."""
        return int(trial.beside.get("seed", self.spec.training_seed))

    @property
    def best(self) -> TrialResult | None:
        """The COMPLETE trial of the best configuration; of equals the shortest where length is an objective, else the
        earliest; None while there is none."""
        found = self.evidence
        return next((trial for trial in self.trials if found and trial.number == found[0].number), None)


def _firsts(trials: Iterable[TrialResult]) -> dict[int, int]:
    ordered = sorted(trials, key=lambda each: (each.control is None, each.number))
    return firsts((each.number, each.params, each.beside) for each in ordered)


def _lost(trial: TrialResult) -> str:
    """How a trial ended that has no metric. None that confirms another is stopped by a pruner."""
    if trial.state == "FAIL":
        return "failed"
    return BY_HAND if trial.stop_reason == BY_HAND else "collapsed"


def find_study(path: Path | None) -> Path:
    """`path` if it is a study directory, the newest one under ./studies for None. Raises UserError otherwise."""
    if path is not None:
        if re.match(r"\w+:/", str(path)):
            raise UserError(f"{path}: is a storage; fipo dashboard reads those, here give a study directory")
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
    trials, files = read_trials(spec, directory)
    return replace(collect(directory, spec, trials), files=files)


def collect(directory: Path, spec: StudySpec, trials: Iterable[FrozenTrial]) -> StudyResults:
    """The results of a study whose Optuna trials are at hand."""
    found = tuple(_result(spec, directory, each) for each in trials)
    return StudyResults(directory=directory, spec=spec, trials=found, driver=driver(directory))


def read_metrics(trial: TrialResult) -> polars.DataFrame:
    """The trial's `metrics.jsonl`, one row per training step; empty while there is none."""
    import polars

    return polars.DataFrame(read_lines(trial.directory / "metrics.jsonl"), infer_schema_length=None)


def _result(spec: StudySpec, directory: Path, trial: FrozenTrial) -> TrialResult:
    known = trial.user_attrs
    name, control = known.get(attributes.LABEL), is_control(spec, trial)
    own = directory / trial_directory(trial.number)
    evaluations = _evaluations(own, _stamp(own / "evaluations.jsonl"))
    return TrialResult(
        number=trial.number,
        state=trial.state.name,
        params=given(trial),
        control=name if control else None,
        enqueued=None if control else name,
        value=completed_value(trial) if trial.state.name == "COMPLETE" else None,
        pruned_at=known.get(attributes.PRUNED_AT) if trial.state.name == "PRUNED" else None,
        fail_reason=known.get(attributes.FAIL_REASON),
        stop_reason=known.get(attributes.STOP_REASON),
        pruner_reason=known.get(attributes.PRUNER_REASON),
        confirms=known.get(attributes.CONFIRMS),
        usage=_usage(spec, trial, own),
        deaths=known.get(attributes.DEATHS, 0),
        beside=known.get(attributes.BESIDE, {}),
        starting=trial.state.name == "RUNNING" and known.get(attributes.STARTING, False),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        directory=own,
        evaluations=evaluations,
    )


def _usage(spec: StudySpec, trial: FrozenTrial, directory: Path) -> Usage:
    """What the driver has recorded at the trial's end; before, what it had taken at its newest step.

    Earlier versions recorded it of a trial that stopped and goes on as well.
    """
    known = usage_of(trial) if trial.state.is_finished() else NOTHING
    return known if known.seconds else usage_so_far(spec.resources, directory)


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
