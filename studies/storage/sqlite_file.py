"""Refuse an SQLite file that is empty, damaged or somebody else's before anything opens it to write; only reads."""

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

from optuna.storages import RDBStorage
from optuna.storages._rdb.models import BaseModel
from sqlalchemy.engine import URL

from studies.errors import BadInput

TABLES = {"alembic_version", *BaseModel.metadata.tables}  # of Optuna
VERSIONS = {"alembic_version", "version_info"}  # a row each, which Optuna would write if it were not there
SECONDS = 60  # how long to wait for a writer that has locked the file; in write-ahead mode nobody does
MISNUMBERED = "SELECT 1 FROM trials GROUP BY study_id HAVING max(number) >= count(*) OR count(DISTINCT number) < count(*)"


def read_only(path: Path) -> str:
    """The URL that opens a file so that nothing can write to it; what a writer has in its write-ahead log is read, too."""
    return URL.create("sqlite", database=path.absolute().as_uri(), query={"mode": "ro", "uri": "true"}).render_as_string()


def check_database(path: Path) -> None:
    """Raise ValueError unless the file is a whole database of this version of Optuna.

    Values that have changed look whole from here: see ``studies.storage.checksums``.
    """
    # By SQLite alone: whoever opens the file beside it and closes it gives up all locks that this process has on it, and
    # another process may then take the log away under a study that is open here (sqlite.org/howtocorrupt.html, 2.2).
    if path.is_dir() or not os.access(path, os.R_OK):
        why = os.strerror(errno.EISDIR if path.is_dir() else errno.EACCES)
        raise BadInput(f"storage must be a file that can be read, got {str(path)!r}: {why}")
    if not path.stat().st_size:
        raise BadInput(f"storage {str(path)!r} is an empty file: restore a copy, or remove it and launch again")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=SECONDS)) as connection:
        try:
            connection.execute("BEGIN")  # one state of the file for all that follows
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            fault = _fault(connection, tables) if TABLES & tables else ""
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                text = f"storage {str(path)!r} is not an SQLite database, or is damaged: restore a copy or give another file"
                raise BadInput(text) from error
            tables, fault = TABLES, str(error)
    if not TABLES & tables:
        raise BadInput(f"storage {str(path)!r} is a database of something else: give another file")
    if fault:
        raise _damaged(path, fault)
    _open_with_optuna(path)  # another version may have other tables
    if lost := TABLES - tables:
        raise _damaged(path, f"table {min(lost)} is missing")


def _fault(connection: sqlite3.Connection, tables: set[str]) -> str:
    """What is wrong with a database, "" when nothing is; about 0.1 s for 3,000 trials."""
    if (found := connection.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        return " ".join(found.split())
    if found := connection.execute("PRAGMA foreign_key_check").fetchone():
        return f"a row of {found[0]} belongs to none of {found[2]}"
    for table in TABLES & tables:
        for _ in connection.execute(f"SELECT * FROM {table}"):  # raises where text is not text
            pass
    for table in VERSIONS & tables:
        if connection.execute(f"SELECT 1 FROM {table}").fetchone() is None:
            return f"{table} is empty"
    return "trials are missing or twice there" if connection.execute(MISNUMBERED).fetchone() else ""


def _open_with_optuna(path: Path) -> None:
    """Have Optuna read the versions of a file and its studies."""
    try:
        storage = RDBStorage(read_only(path), skip_table_creation=True)
        storage.get_all_studies()
        storage.remove_session()
        storage.engine.dispose()
    except RuntimeError as error:  # its sentence says which command upgrades the file
        raise BadInput(f"storage {str(path)!r} is of another version of Optuna: {error}") from error
    except Exception as error:  # whatever Optuna comes upon in what it did not write
        raise _damaged(path, f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _damaged(path: Path, fault: str) -> BadInput:
    return BadInput(f"storage {str(path)!r} is damaged ({fault}): restore a copy or give another file")
