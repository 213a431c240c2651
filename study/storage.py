"""The study directory and the Optuna storage in it, which is the truth about every trial.

study.yaml    the complete spec
optuna.db     SQLite; study name = spec name, maximized, intermediate values keyed by training step
trials/0007/  config.yaml, metrics.jsonl, evaluations.jsonl of trial 7
driver.log    what Ray, Tune and the trials print
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from study.spec import StudySpec
from trainer.errors import UserError
from trainer.records import write_atomic

if TYPE_CHECKING:
    import optuna

DEFAULT_PARENT = Path("studies")


def trial_directory(number: int) -> Path:
    """Where trial `number` lies, relative to the study directory."""
    return Path("trials") / f"{number:04d}"


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, never half. Raises UserError when it cannot."""
    try:
        write_atomic(path, text)
    except OSError as error:
        for partial in path.parent.glob(f".{path.name}.*"):
            partial.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); free space, or choose another place") from None


def free_directory(name: str, parent: Path = DEFAULT_PARENT) -> Path:
    """`parent`/name, or the first of name-2, name-3, ... that does not exist."""
    candidate, number = parent / name, 2
    while candidate.exists():
        candidate, number = parent / f"{name}-{number}", number + 1
    return candidate


class Staging:
    """A study directory in the making, under a hidden name beside the final one, so that no one meets half a study.

    Raises:
        UserError: the final directory exists, or nothing can be written there.
    """

    def __init__(self, spec: StudySpec, directory: Path) -> None:
        self.final = directory.absolute()
        if self.final.exists():
            raise UserError(
                f"--out {directory} exists; choose another directory, or leave --out away for the next free name"
            )
        try:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(dir=self.final.parent, prefix=f".{self.final.name}."))
            self.path.chmod(0o755)
            (self.path / "trials").mkdir()
            self.log = (self.path / "driver.log").open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"--out {directory}: cannot be written ({error.strerror}); free space, or choose another directory"
            ) from None
        write_atomically(self.path / "study.yaml", spec.to_yaml())
        create_optuna_study(spec, self.path)

    def publish(self) -> Path:
        """Give the study its name. Raises UserError when another study took it meanwhile."""
        try:
            self.path.rename(self.final)
        except OSError as error:
            raise UserError(f"{self.final}: cannot be made ({error.strerror}); choose another --out") from None
        return self.final

    def discard(self) -> None:
        """Remove what was not published."""
        self.log.close()
        shutil.rmtree(self.path, ignore_errors=True)


def create_optuna_study(spec: StudySpec, directory: Path) -> None:
    """Make `optuna.db` with the controls of `spec` waiting in it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = rdb_storage(directory, mode="rwc")
    study = optuna.create_study(study_name=spec.name, storage=storage, direction="maximize")
    for control in spec.enqueue:
        params = {key: value for key, value in control.values.items() if key in spec.space}
        fixed = {key: value for key, value in control.values.items() if key not in spec.space}
        study.enqueue_trial(params, user_attrs={"control": control.label, "fixed": fixed})
    storage.engine.dispose()


@contextlib.contextmanager
def driving(spec: StudySpec, directory: Path) -> Iterator[optuna.Study]:
    """The study of `directory` with the sampler and pruner of `spec`, for its one driver."""
    import optuna
    import sqlalchemy

    from study.pruners import make_pruner
    from study.samplers import make_sampler

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = rdb_storage(directory, mode="rw")
    _journal_mode(storage, "WAL")  # others read while the driver writes, and a report takes half the time
    pruner = make_pruner(spec.pruner.name, spec.pruner.options)
    try:
        yield optuna.load_study(study_name=spec.name, storage=storage, sampler=make_sampler(spec), pruner=pruner)
    finally:
        storage.engine.dispose()
        # The log folded in, optuna.db is one file that opens anywhere, read-only media included. While a dashboard
        # reads it stays locked and keeps its log beside it, which every reader understands.
        with contextlib.suppress(sqlalchemy.exc.OperationalError):
            _journal_mode(storage, "DELETE")
        storage.engine.dispose()


def rdb_storage(directory: Path, *, mode: Literal["ro", "rw", "rwc"]) -> optuna.storages.RDBStorage:
    """The SQLite storage in `directory`: read only, for writing, or to be made."""
    import optuna
    import sqlalchemy

    file = "file:" + urllib.parse.quote(str(directory.absolute() / "optuna.db"))
    url = sqlalchemy.URL.create("sqlite", database=file, query={"mode": mode, "uri": "true"})
    # Wait for a lock rather than fail.
    return optuna.storages.RDBStorage(url.render_as_string(), engine_kwargs={"connect_args": {"timeout": 60}})


def _journal_mode(storage: optuna.storages.RDBStorage, mode: str) -> None:
    with storage.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=2000")
        connection.exec_driver_sql(f"PRAGMA journal_mode={mode}")
