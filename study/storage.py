"""The Optuna storage of a study, which is the truth about every trial.

`sqlite` is `optuna.db` in the study directory; `journal` is `optuna.journal` there, which several machines can read
over a shared file system; a database URL is a server, for example PostgreSQL. One driver writes, everyone may read.
"""

from __future__ import annotations

import contextlib
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from study import attributes
from study.problem_files import digests
from study.spec import Control, StudySpec
from trainer.errors import UserError, root_line

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_BEGUN = "begun"
"""User attribute of a study: what its spec said when it began, see `StudySpec.comparable`."""
_FILES = "files"
"""User attribute of a study: what its local problem files held then, see `study.problem_files.digests`."""
Mode = Literal["ro", "rw", "rwc"]
_LOCK_SECONDS = 60.0
"""How long a writer waits for SQLite's lock before it gives up."""
_AWAY_SECONDS = 600.0
"""How long the driver waits for a server that has gone away; what it runs trains on up to the next evaluation."""


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
        where = "the study's directory" if spec.storage in ("sqlite", "journal") else address_of(spec.storage)
        raise UserError(f"{where}: cannot be written ({root_line(error)}); free space, or choose another") from None


def edited(study: optuna.Study, spec: StudySpec) -> list[str]:
    """Keys of `spec` that were others when the study began, and must not change, each with what it was; none where that
    is not known."""
    begun, now = study.user_attrs.get(_BEGUN, {}), spec.comparable()
    keys = sorted(key for key in begun.keys() | now.keys() if begun.get(key) != now.get(key)) if begun else []
    return [f"{key} was {begun.get(key, 'not there')}" for key in keys]


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

    if spec.storage in ("sqlite", "journal"):
        return  # in the new directory, where nothing can be
    with open_storage(spec, directory, mode="rw") as storage:
        if spec.name in optuna.get_all_study_names(storage):
            raise _taken(spec)


@contextlib.contextmanager
def driving(spec: StudySpec, directory: Path) -> Iterator[optuna.Study]:
    """The study of `directory` with the pruner of `spec`, for its one driver, which sets the sampler."""
    import optuna

    from study.pruners import make_pruner

    pruner = make_pruner(spec.pruner.name, spec.pruner.options)
    with open_storage(spec, directory, mode="rw") as storage:
        if isinstance(storage, optuna.storages.RDBStorage):
            from study.one_writer import OneWriterStorage

            if spec.storage != "sqlite":
                _waits_for_server(storage)
            storage = OneWriterStorage(storage)
        yield optuna.load_study(study_name=spec.name, storage=storage, pruner=pruner)


def read_trials(spec: StudySpec, directory: Path) -> tuple[list[FrozenTrial], dict[str, str]]:
    """All trials of the study, without locking or changing anything; none while it is still being made. And beside
    them the SHA-256 of its local problem files when it began, by path.

    Their intermediate values are left out where that saves time: of a thousand trials they take four fifths of it, and
    stand in each trial's own evaluations too.

    Raises:
        UserError: the storage cannot be read.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    file = _sqlite_file(directory) if spec.storage == "sqlite" else _journal_file(directory)
    local = spec.storage in ("sqlite", "journal")
    if local and not file.exists():
        return [], {}
    try:
        with open_storage(spec, directory, mode="ro") as storage:
            _leave_out_reports(storage)
            study = optuna.load_study(study_name=spec.name, storage=storage)
            return study.get_trials(deepcopy=False), study.user_attrs.get(_FILES, {})
    except KeyError:
        return [], {}
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        if local and file.stat().st_size == 0:
            return [], {}
        where = str(file) if local else address_of(spec.storage)
        raise UserError(f"{where}: cannot be read ({root_line(error)}); is it a study's database?") from None


@contextlib.contextmanager
def open_storage(spec: StudySpec, directory: Path, *, mode: Mode) -> Iterator[BaseStorage]:
    """The storage that `spec.storage` names: to be read, written, or made and written.

    Raises:
        UserError: a server that cannot be reached, or whose driver package is missing.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if spec.storage == "sqlite":
        with _sqlite(_sqlite_file(directory), mode) as storage:
            yield storage
    elif spec.storage == "journal":
        yield optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(_journal_file(directory))))
    else:
        with _server(spec.storage) as storage:
            yield storage


def _taken(spec: StudySpec) -> UserError:
    return UserError(
        f"name = {spec.name!r}: {address_of(spec.storage)} holds a study of that name; choose another, --set name=..."
    )


def address_of(storage: str) -> str:
    """A storage as it may be printed. URLs hold no password, see `StudySpec.storage`; this cuts their options off."""
    return storage.partition("?")[0]


@contextlib.contextmanager
def _server(url: str) -> Iterator[optuna.storages.RDBStorage]:
    import optuna
    import sqlalchemy

    try:
        # pool_pre_ping: a connection that the server dropped during a long step is made anew.
        storage = optuna.storages.RDBStorage(with_driver(url), engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        needs = "pip install -e '.[postgres]'" if with_driver(url) != url else "install it, or use postgresql://"
        raise UserError(f"storage = {address_of(url)}: needs a package ({error}); {needs}") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise UserError(
            f"storage = {address_of(url)}: cannot be used ({root_line(error)}); check the address, and that the"
            " password is in PGPASSWORD or ~/.pgpass"
        ) from None
    try:
        yield storage
    finally:
        storage.engine.dispose()


def _waits_for_server(storage: optuna.storages.RDBStorage) -> None:
    """From here on a server that restarts or fails over is waited for. Between transactions, where it nearly always
    happens, the pool finds its connection dead and makes a new one, so nothing that was written is written again."""
    import sqlalchemy

    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        ends, pause = time.monotonic() + _AWAY_SECONDS, 1.0
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() + pause > ends:
                    raise
                now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
                print(f"{now} storage: {root_line(error)}; waiting up to {_AWAY_SECONDS:g} s for it", flush=True)
            time.sleep(pause)
            pause = min(2 * pause, 15.0)

    sqlalchemy.event.listen(storage.engine, "do_connect", connect)


def with_driver(url: str) -> str:
    """`postgresql://` means psycopg 3 here; SQLAlchemy's default is psycopg2."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgresql", "postgres") else url


@contextlib.contextmanager
def _sqlite(file: Path, mode: Mode) -> Iterator[optuna.storages.RDBStorage]:
    import optuna
    import sqlalchemy

    address = "file:" + urllib.parse.quote(str(file.absolute()))
    url = sqlalchemy.URL.create("sqlite", database=address, query={"mode": mode, "uri": "true"})
    storage = optuna.storages.RDBStorage(
        url.render_as_string(), engine_kwargs={"connect_args": {"timeout": _LOCK_SECONDS}}
    )
    if mode != "rw":
        try:
            yield storage
        finally:
            storage.engine.dispose()
        return
    # Others read while the driver writes, and a report takes half the time. Losing power may lose the last reports,
    # which a resumed trial tells again from its own evaluations.
    sqlalchemy.event.listen(storage.engine, "connect", _write_ahead)
    storage.engine.dispose()
    try:
        yield storage
    finally:
        storage.engine.dispose()
        sqlalchemy.event.remove(storage.engine, "connect", _write_ahead)
        # The log folded in, optuna.db is one file that opens anywhere, read-only media included. While a dashboard
        # reads it stays locked and keeps its log beside it, which every reader understands.
        with contextlib.suppress(sqlalchemy.exc.OperationalError), storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=2000")
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        storage.engine.dispose()


def _leave_out_reports(storage: BaseStorage) -> None:
    """Have a database select no row of intermediate values; a journal has no rows."""
    import sqlalchemy
    from optuna.storages import RDBStorage
    from optuna.storages._rdb.models import TrialIntermediateValueModel
    from sqlalchemy.orm import with_loader_criteria

    if not isinstance(storage, RDBStorage):
        return
    no_row = with_loader_criteria(TrialIntermediateValueModel, sqlalchemy.false())

    def narrow(execution: sqlalchemy.orm.ORMExecuteState) -> None:
        if execution.is_select:
            execution.statement = execution.statement.options(no_row)

    sqlalchemy.event.listen(storage.scoped_session, "do_orm_execute", narrow)


def _write_ahead(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _sqlite_file(directory: Path) -> Path:
    return directory / "optuna.db"


def _journal_file(directory: Path) -> Path:
    return directory / "optuna.journal"
