"""Open the storage of results: SQLite in write-ahead mode by default, PostgreSQL or any URL of Optuna's otherwise."""

import contextlib
import glob
import sqlite3
import sys
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from studies.errors import BadInput
from studies.storage.database_url import POSTGRES, SQLITE, engine_url, not_opened, sqlite_path, without_password
from studies.storage.sqlite_file import read_only
from studies.storage.stored import SELF_CHECK
from studies.storage.writable import check_storage

BUSY_SECONDS = 60  # how long a writer waits for another study's write to the same file


def open_storage(url: str) -> RDBStorage:
    """Optuna's storage behind a checked URL; its tables are made if missing. SQLite is put into write-ahead mode.

    Raises ValueError when that fails.
    """
    path = sqlite_path(url)
    sys.audit("lr_study.write", "tables")
    try:
        return _open_server(url) if path is None else _open_file(path)
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
        raise not_opened(url, error) from error


def _open_file(path: Path) -> RDBStorage:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # making the tables from two processes at once fails
        if not path.exists():
            _make_tables(path)
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        storage = RDBStorage(engine_url(f"{SQLITE}{path}"), engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")  # in WAL mode: safe when a process dies, a third faster

    event.listen(storage.engine, "connect", relax)
    storage.engine.dispose()  # connections made before the listener
    return storage


def _make_tables(path: Path) -> None:
    """Under another name first: a file that is there has all its tables, whenever a process is killed or a disk is full."""
    new = path.with_name(f"{path.name}.new")
    for left_behind in path.parent.glob(f"{glob.escape(new.name)}*"):
        left_behind.unlink()
    try:
        with contextlib.closing(sqlite3.connect(new)) as file:
            in_memory = RDBStorage("sqlite://").engine  # then the disk is waited for once, not for each table
            in_memory.raw_connection().driver_connection.backup(file)  # type: ignore[union-attr]
            in_memory.dispose()
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)


def _open_server(url: str) -> RDBStorage:
    from studies.storage.advisory_lock import one_at_a_time
    from studies.storage.patience import PatientStorage

    with one_at_a_time(url) if url.startswith(POSTGRES) else contextlib.nullcontext():  # as above
        return PatientStorage(url)


def open_to_read(url: str) -> RDBStorage:
    """Optuna's storage behind a URL from ``check_storage``; an SQLite file is opened so that nothing can write to it."""
    from studies.storage.patience import PatientStorage

    path = sqlite_path(url)
    try:
        if path is None:
            return PatientStorage(url, skip_table_creation=True)
        options = {"connect_args": {"timeout": BUSY_SECONDS}}
        return RDBStorage(read_only(path), engine_kwargs=options, skip_table_creation=True)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise not_opened(url, error) from error


def load_study(storage: str, name: str) -> optuna.Study:
    """An existing study, to read. Raises ValueError naming the studies there are when it is not among them."""
    url = check_storage(storage, must_exist=True)
    try:
        opened = RDBStorage(engine_url(url)) if sqlite_path(url) else open_storage(url)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise not_opened(url, error) from error
    names = sorted(study.study_name for study in opened.get_all_studies())
    if name not in names:
        names = [known for known in names if not known.endswith(SELF_CHECK)]
        raise BadInput(
            f"name must be a study in {without_password(storage)!r}: {', '.join(names) or 'there are none'}; got {name!r}"
        )
    return optuna.load_study(study_name=name, storage=opened)
