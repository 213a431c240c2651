"""The study directory: where everything about a study lies but, for a storage elsewhere, its Optuna trials.

study.yaml    the complete spec
optuna.db     SQLite: study name = spec name, maximized, intermediate values keyed by training step (study/storage.py)
trials/0007/  config.yaml, metrics.jsonl, evaluations.jsonl of trial 7; the driver leaves it word in `stop`, `enough`
environment.txt  versions and commit that it ran with
ending.txt    why the last driver left off early, if it did (study/ending.py)
driver.log    what Ray, Tune and the trials print
driver.json   which process drives the study, while one does (study/lock.py)
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from study.spec import StudySpec
from study.storage import create_study, require_free
from trainer.errors import UserError
from trainer.records import usual_mode, write_atomic

DEFAULT_PARENT = Path("studies")


def trial_directory(number: int) -> Path:
    """Where trial `number` lies, relative to the study directory."""
    return Path("trials") / f"{number:04d}"


def typed(command: str, directory: Path) -> str:
    """`fipo resume DIR` and the like, as it is typed into a shell."""
    return f"fipo {command} {shlex.quote(str(directory))}"


def write_or_refuse(path: Path, text: str) -> None:
    """`write_atomic`, which raises UserError when it cannot."""
    try:
        write_atomic(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); free space, or choose another place") from None


def say_enough(trial: Path, step: int, samples: int) -> None:
    """Tell the trial in directory `trial` that `samples` per problem are enough for its evaluation at `step`."""
    write_or_refuse(trial / "enough", f"{step} {samples}")


def is_enough(trial: Path, step: int, samples: int) -> bool:
    """Whether `say_enough` said so of just this: a word about an earlier evaluation may still lie there."""
    path = trial / "enough"
    return path.exists() and path.read_text(encoding="utf-8") == f"{step} {samples}"


def free_directory(name: str, parent: Path = DEFAULT_PARENT) -> Path:
    """`parent`/name, or the first of name-2, name-3, ... that does not exist."""
    candidate, number = parent / name, 2
    while candidate.exists():
        candidate, number = parent / f"{name}-{number}", number + 1
    return candidate


def require_free_path(out: Path, *, default: bool) -> None:
    """Raise UserError where `out` exists: nothing is written over. `default`: without --out a free name is found."""
    if out.exists():
        way = "leave --out away for the next free name" if default else "remove it first"
        go_on = f", or go on with it: {typed('resume', out)}" if default and (out / "study.yaml").exists() else ""
        raise UserError(f"--out {out} exists; choose another name, or {way}{go_on}")


class Staging:
    """A study directory in the making, under a hidden name beside the final one, so that no one meets half a study.

    Raises:
        UserError: the final directory exists, or nothing can be written there.
    """

    def __init__(self, spec: StudySpec, directory: Path) -> None:
        self.final = directory.absolute()
        require_free_path(directory, default=True)
        try:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(dir=self.final.parent, prefix=f".{self.final.name}."))
            self.path.chmod(usual_mode())
            (self.path / "trials").mkdir()
            self.log = (self.path / "driver.log").open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"--out {directory}: cannot be written ({error.strerror}); free space, or choose another directory"
            ) from None
        self.spec = spec
        try:
            write_or_refuse(self.path / "study.yaml", spec.to_yaml())
            require_free(spec, self.path)
        except UserError:
            self.discard()
            raise

    def publish(self) -> Path:
        """Make the Optuna study and give the directory its name. Raises UserError when another took it meanwhile."""
        create_study(self.spec, self.path)
        try:
            self.path.rename(self.final)
        except OSError as error:
            raise UserError(f"{self.final}: cannot be made ({error.strerror}); choose another --out") from None
        return self.final

    def discard(self) -> None:
        """Remove what was not published."""
        self.log.close()
        shutil.rmtree(self.path, ignore_errors=True)
