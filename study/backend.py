"""The file or server behind a study's storage, opened to be read, written, or made."""

from __future__ import annotations

import contextlib
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from study.clock import now
from study.spec import StudySpec
from trainer.errors import UserError, root_line

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

Mode = Literal["ro", "rw", "rwc"]
FILES = {"sqlite": "optuna.db", "journal": "optuna.journal"}
"""The file in the study's directory that a local storage is."""
_LOCK_SECONDS = 60.0
"""How long a writer waits for SQLite's lock before it gives up."""
_AWAY_SECONDS = 600.0
"""How long the driver waits for a server that has gone away; what it runs trains on up to the next evaluation."""


@contextlib.contextmanager
def open_storage(spec: StudySpec, directory: Path, *, mode: Mode) -> Iterator[BaseStorage]:
    """The storage that `spec.storage` names: to be read, written, or made and written.

    Raises:
        UserError: a server that cannot be reached, or whose driver package is missing, or a damaged journal.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if spec.storage == "sqlite":
        with _sqlite(directory / FILES["sqlite"], mode) as storage:
            yield storage
    elif spec.storage == "journal":
        from study.journal import journal

        yield journal(directory / FILES["journal"])
    else:
        with _server(spec.storage) as storage:
            yield storage


def may_hold(spec: StudySpec, directory: Path) -> bool:
    """Whether there is something to look into; a file that is missing would be made where it is opened."""
    if spec.storage not in FILES:
        return True
    file = directory / FILES[spec.storage]
    return file.exists() and file.stat().st_size > 0


def place(spec: StudySpec, directory: Path) -> str:
    """Where the study is stored, as it may be printed."""
    return str(directory / FILES[spec.storage]) if spec.storage in FILES else address_of(spec.storage)


def address_of(storage: str) -> str:
    """A storage as it may be printed. URLs hold no password, see `StudySpec.storage`; this cuts their options off."""
    return storage.partition("?")[0]


def with_driver(url: str) -> str:
    """`postgresql://` means psycopg 3 here; SQLAlchemy's default is psycopg2."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgresql", "postgres") else url


def leave_out_reports(storage: BaseStorage) -> None:
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


def waits_for_server(storage: optuna.storages.RDBStorage) -> None:
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
                print(f"{now()} storage: {root_line(error)}; waiting up to {_AWAY_SECONDS:g} s for it", flush=True)
            time.sleep(pause)
            pause = min(2 * pause, 15.0)

    sqlalchemy.event.listen(storage.engine, "do_connect", connect)


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


def _write_ahead(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
