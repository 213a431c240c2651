"""Any Optuna study, read from the storage that a URL names. Nothing is written there, not even missing tables."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.backend import with_driver
from trainer.errors import UserError, root_line

if TYPE_CHECKING:
    import optuna

PATIENCE = {"sqlite": {"timeout": 60}, "postgresql": {"connect_timeout": 10}, "mysql": {"connect_timeout": 10}}
"""Seconds to wait for a lock or for a server, in the words of each database's driver."""
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""What to install for a driver, where it is not called like its module."""


@dataclass(frozen=True)
class OptunaStudy:
    """An Optuna study of which nothing else is known: no lengths, no configurations, no completions."""

    name: str
    url: str
    """Without its password."""
    trials: tuple[optuna.trial.FrozenTrial, ...]
    directions: tuple[optuna.study.StudyDirection, ...]
    """One for each objective."""

    def in_memory(self) -> optuna.Study:
        """A copy for Optuna's plots, which would read the storage again for each of them."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        memory = optuna.storages.InMemoryStorage()
        study = optuna.create_study(study_name=self.name, storage=memory, directions=self.directions)
        study.add_trials(self.trials)
        return study


def is_url(place: str) -> bool:
    """Whether `place` names an Optuna storage (sqlite:///x.db, postgresql://...) and not a directory."""
    return "://" in place


def shown(url: str) -> str:
    """The URL for eyes: without its password."""
    import sqlalchemy

    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return "the given URL"


def listed(places: Sequence[str]) -> str:
    """Directories and URLs in one line, for eyes."""
    return ", ".join(shown(each) if is_url(each) else each for each in places)


def names(url: str) -> list[str]:
    """Names of the studies in the storage, the newest first. Raises UserError when it cannot be read."""
    import optuna

    storage = _storage(url)
    try:
        summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    except Exception as error:
        raise _unreadable(url, error) from None
    storage.engine.dispose()
    return [each.study_name for each in reversed(summaries)]


def load(url: str, name: str) -> optuna.Study:
    """The study `name` for `read`. Raises UserError when the storage cannot be read or has no such study."""
    import optuna

    try:
        return optuna.load_study(study_name=name, storage=_storage(url))
    except KeyError:
        raise UserError(f"{shown(url)}: has no study {name}; it has {', '.join(names(url)) or 'none'}") from None
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(url, error) from None


def read(study: optuna.Study, url: str) -> OptunaStudy:
    """The trials as of now. A second reading of the same `study` asks the storage for unfinished trials only."""
    try:
        trials = tuple(study.get_trials(deepcopy=False))
    except Exception as error:
        raise _unreadable(url, error) from None
    return OptunaStudy(study.study_name, shown(url), trials, tuple(study.directions))


def _storage(url: str) -> optuna.storages.RDBStorage:
    import optuna
    import sqlalchemy

    try:
        target = sqlalchemy.make_url(with_driver(url))
        database = target.get_backend_name()
        if database == "sqlite":
            path = Path(target.database or "").absolute()
            if not path.is_file():
                raise UserError(f"{shown(url)}: no such file; sqlite:///name.db is relative, sqlite:////name.db is not")
            file = "file:" + urllib.parse.quote(str(path))
            target = target.set(database=file, query={"mode": "ro", "uri": "true"})
        options: dict[str, Any] = {"connect_args": PATIENCE.get(database, {})}
        text = target.render_as_string(hide_password=False)
        return optuna.storages.RDBStorage(text, engine_kwargs=options, skip_table_creation=True)
    except UserError:
        raise
    except ImportError as error:
        module = getattr(error.__cause__, "name", None) or "of this database"
        hint = f"pip install '{PACKAGES.get(module, module)}'"
        raise UserError(f"{shown(url)}: the driver {module} is not installed; {hint}") from None
    except Exception as error:
        raise _unreadable(url, error) from None


def _unreadable(url: str, error: Exception) -> UserError:
    return UserError(f"{shown(url)}: cannot be read ({root_line(error)}); is it an Optuna storage, and reachable?")
