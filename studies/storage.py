"""Open the storage of results and lock a study: SQLite in write-ahead mode by default, any URL of Optuna's otherwise."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from studies.errors import StudyInUse

SQLITE = "sqlite:///"
SQLITE_HEADER = b"SQLite format 3\x00"
SELF_CHECK = ".self-check"  # the end of the name of the study that holds the self-check of another
BUSY_SECONDS = 60  # how long a writer waits for another study's write to the same file


def storage_url(storage: str) -> str:
    """A URL Optuna takes; a bare path means an SQLite file."""
    if not isinstance(storage, str) or not storage.strip():
        raise ValueError(f"storage must be an SQLite file or a URL such as postgresql://host/name, got {storage!r}")
    if storage in ("sqlite://", SQLITE) or ":memory:" in storage:
        raise ValueError(f"storage must be a file when it is SQLite, a database in memory would be lost, got {storage!r}")
    return storage if "://" in storage else SQLITE + storage


def sqlite_path(url: str) -> Path | None:
    """The file behind an SQLite URL; None for other databases."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def require_writable(folder: Path, what: str) -> None:
    """Raise ValueError unless a file could be made in ``folder``, or in the folder it would be made in; leaves nothing."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ValueError(f"{what} must be a place that can be written, got {str(folder)!r}: {error.strerror}") from error


def check_storage(storage: str, *, must_exist: bool = False) -> str:
    """The URL of a storage that can be used; reads at most, writes nothing.

    Raises ValueError for a file that is not Optuna's, a folder that cannot be written, or, with ``must_exist``, no file.
    """
    url = storage_url(storage)
    path = sqlite_path(url)
    if path is None:
        try:
            make_url(url).get_dialect().import_dbapi()
        except (SQLAlchemyError, ImportError) as error:
            kind = url.partition("://")[0]  # never the whole URL: it may hold a password
            raise ValueError(
                f"storage must be a database that can be reached from here, got one of kind {kind!r}: {error}"
            ) from error
        return url
    if path.is_dir():
        raise ValueError(f"storage must be a file, {str(path)!r} is a folder")
    if path.exists():
        _check_database(path)
    elif must_exist:
        raise ValueError(f"storage {str(path)!r} does not exist: give the file that launch_study wrote")
    if not must_exist:
        require_writable(path.parent, "storage")
    return url


def _check_database(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(16) != SQLITE_HEADER:
            raise ValueError(f"storage {str(path)!r} is not an SQLite database: move it away or give another file")
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.DatabaseError as error:
            raise ValueError(f"storage {str(path)!r} is damaged ({error}): restore a copy or give another file") from error
    if tables and "studies" not in tables:
        raise ValueError(f"storage {str(path)!r} is a database of something else: give another file")


def open_storage(url: str) -> RDBStorage:
    """Optuna's storage behind a checked URL; SQLite files are made if missing and put into write-ahead mode."""
    path = sqlite_path(url)
    if path is None:
        try:
            return RDBStorage(url)
        except SQLAlchemyError as error:
            name = make_url(url).render_as_string(hide_password=True)
            raise ValueError(f"storage {name!r} could not be opened: {getattr(error, 'orig', error)}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # making the tables from two processes at once fails
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")  # in WAL mode: safe when a process dies, a third faster

    event.listen(storage.engine, "connect", relax)
    storage.engine.dispose()  # connections made before the listener
    return storage


def self_check_name(name: str) -> str:
    """The name of the study that holds the self-check of ``name``."""
    return name + SELF_CHECK


def load_study(storage: str, name: str) -> optuna.Study:
    """An existing study, to read. Raises ValueError naming the studies there are when it is not among them."""
    opened = RDBStorage(check_storage(storage, must_exist=True))
    names = sorted(study.study_name for study in opened.get_all_studies())
    if name not in names:
        names = [known for known in names if not known.endswith(SELF_CHECK)]
        raise ValueError(f"name must be a study in {storage!r}: {', '.join(names) or 'there are none'}; got {name!r}")
    return optuna.load_study(study_name=name, storage=opened)


@contextlib.contextmanager
def locked(url: str, name: str) -> Iterator[None]:
    """Hold the study for this process; the kernel lets go of it when the process ends, however it ends.

    Raises StudyInUse when another process on this machine holds it.
    """
    path = sqlite_path(url)
    elsewhere = Path(tempfile.gettempdir()) / f"learning-rate-study.{sha256(url.encode()).hexdigest()[:16]}"
    lock_file = Path(f"{path or elsewhere}.{name}.lock")
    holder = lock_file.with_suffix(".holder")
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            who = holder.read_text()
        except OSError:  # it has the lock and is about to say who it is, or just let go
            who = "another process"
        raise StudyInUse(f"study {name!r} is being worked on by {who}: wait for it, or choose another name") from None
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
