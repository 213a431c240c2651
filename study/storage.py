"""The Optuna storage of a study, which is the truth about every trial.

`sqlite` is `optuna.db` in the study directory; `journal` is `optuna.journal` there, which several machines can read
over a shared file system; a database URL is a server, for example PostgreSQL. One driver writes, everyone may read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from study import attributes
from study.backend import FILES, address_of, leave_out_reports, may_hold, open_storage, place, waits_for_server
from study.problem_files import digests
from study.spec import Control, StudySpec
from trainer.errors import UserError, root_line

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_BEGUN = "begun"
"""User attribute of a study: what its spec said when it began, see `StudySpec.comparable`."""
_FILES = "files"
"""User attribute of a study: what its local problem files held then, see `study.problem_files.digests`."""
_DIRECTORY = "directory"
"""User attribute of a study in a server: the directory that was driven last."""


def create_study(spec: StudySpec, directory: Path) -> None:
    """Make the Optuna study of `spec` with its controls waiting in it.

    Raises:
        UserError: there is one of that name already, or it cannot be written.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with open_storage(spec, directory, mode="rwc") as storage:
            study = optuna.create_study(study_name=spec.name, storage=storage, directions=directions(spec))
            study.set_user_attr(_BEGUN, spec.comparable())
            study.set_user_attr(_FILES, digests(spec))
            for control in spec.enqueue:
                enqueue(study, spec, control)
    except optuna.exceptions.DuplicatedStudyError:
        raise _taken(spec) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        where = "the study's directory" if spec.storage in FILES else address_of(spec.storage)
        raise UserError(f"{where}: cannot be written ({root_line(error)}); free space, or choose another") from None


def edited(study: optuna.Study, spec: StudySpec) -> list[str]:
    """Keys of `spec` that were others when the study began, and must not change, each with what it was; none where that
    is not known."""
    begun, now = study.user_attrs.get(_BEGUN, {}), spec.comparable()
    keys = sorted(key for key in begun.keys() | now.keys() if begun.get(key) != now.get(key)) if begun else []
    first = study.get_trials(deepcopy=False)[: len(spec.enqueue)]
    labels, queued = [each.label for each in spec.enqueue], [each.user_attrs.get(attributes.LABEL) for each in first]
    return [
        *(f"{key} was {begun.get(key, 'not there')}" for key in keys),
        *([] if labels == queued else [f"enqueue was {', '.join(map(str, filter(None, queued))) or 'not there'}"]),
    ]


def edited_files(study: optuna.Study, spec: StudySpec) -> list[str]:
    """Local problem files of `spec` that held something else when the study began; none where that is not known."""
    begun = study.user_attrs.get(_FILES, {})
    return [path for path, digest in digests(spec).items() if begun.get(path, digest) != digest]


def enqueue(study: optuna.Study, spec: StudySpec, control: Control) -> None:
    """Put a trial at the end of the queue, which goes before what is sampled."""
    params = {key: value for key, value in control.values.items() if key in spec.space}
    beside = spec.beside_space(control.values)
    study.enqueue_trial(params, user_attrs={attributes.LABEL: control.label, attributes.BESIDE: beside})


def directions(spec: StudySpec) -> list[Literal["maximize", "minimize"]]:
    """What Optuna is to do with each objective."""
    return ["maximize", "minimize"] if spec.against else ["maximize"]


def require_free(spec: StudySpec, directory: Path) -> None:
    """Raise UserError when the storage cannot be used, or holds a study of this name already."""
    import optuna

    if spec.storage in FILES:
        return  # in the new directory, where nothing can be
    with open_storage(spec, directory, mode="rw") as storage:
        if spec.name in optuna.get_all_study_names(storage):
            raise _taken(spec)


@contextlib.contextmanager
def driving(spec: StudySpec, directory: Path) -> Iterator[optuna.Study]:
    """The study of `directory` with the pruner of `spec`, for its one driver, which sets the sampler.

    Raises:
        UserError: the storage cannot be used, holds it no more, or `directory` is a copy of the one that goes with it.
    """
    import optuna

    from study.pruners import make_pruner

    pruner = make_pruner(spec.pruner.name, spec.pruner.options)
    if not may_hold(spec, directory):
        raise _lost(spec, directory)
    with open_storage(spec, directory, mode="rw") as storage:
        if isinstance(storage, optuna.storages.RDBStorage):
            from study.one_writer import OneWriterStorage

            if spec.storage != "sqlite":
                waits_for_server(storage)
            storage = OneWriterStorage(storage)
        try:
            study = optuna.load_study(study_name=spec.name, storage=storage, pruner=pruner)
        except KeyError:
            raise _lost(spec, directory) from None
        if spec.storage not in FILES:
            _claim(study, spec, directory)
        yield study


def _claim(study: optuna.Study, spec: StudySpec, directory: Path) -> None:
    """Note that `directory` is the study's. A copy has its own lock, but not a study of its own: two drivers would
    train the same trials and overwrite each other's results.

    Raises:
        UserError: the study's directory is another one, which still is where it was driven last.
    """
    noted, own = study.user_attrs.get(_DIRECTORY), str(directory.resolve())
    if noted == own:
        return
    if noted is not None and _is_of(spec, Path(noted)) and not directory.samefile(noted):
        raise UserError(
            f"{directory}: is a copy of {noted}, to which the study {spec.name!r} in {address_of(spec.storage)}"
            " belongs; go on there, or move that directory away first"
        )
    study.set_user_attr(_DIRECTORY, own)


def _is_of(spec: StudySpec, directory: Path) -> bool:
    """Whether `directory` is one of the study of `spec`, as far as this machine can see."""
    try:
        other = StudySpec.from_file(directory / "study.yaml")
    except UserError:
        return False
    return (other.name, other.storage) == (spec.name, spec.storage)


def read_trials(spec: StudySpec, directory: Path) -> tuple[list[FrozenTrial], dict[str, str]]:
    """All trials of the study, without locking or changing anything; none while it is still being made. And beside
    them the SHA-256 of its local problem files when it began, by path.

    Their intermediate values are left out where that saves time: of a thousand trials they take four fifths of it, and
    stand in each trial's own evaluations too.

    Raises:
        UserError: the storage cannot be read, or has lost the study.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if may_hold(spec, directory):
            with open_storage(spec, directory, mode="ro") as storage:
                leave_out_reports(storage)
                study = optuna.load_study(study_name=spec.name, storage=storage)
                return study.get_trials(deepcopy=False), study.user_attrs.get(_FILES, {})
    except KeyError:
        pass  # it holds no study of that name
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        line = f"{place(spec, directory)}: cannot be read ({root_line(error)}); is it a study's database?"
        raise UserError(line) from None
    if any((directory / "trials").glob("*")):
        raise _lost(spec, directory)
    return [], {}


def _lost(spec: StudySpec, directory: Path) -> UserError:
    return UserError(
        f"{place(spec, directory)}: holds no study named {spec.name!r}, whose directory is {directory};"
        " write back its name or storage if you edited that, else restore it from a copy, or launch anew"
    )


def _taken(spec: StudySpec) -> UserError:
    return UserError(
        f"name = {spec.name!r}: {address_of(spec.storage)} holds a study of that name; choose another, --set name=..."
    )
