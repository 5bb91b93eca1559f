"""Hold a study for this process; who comes second is told who holds it."""

import contextlib
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from studies.storage.database_url import POSTGRES, sqlite_path, without_password
from studies.storage.holder import in_use, named, write_note


@contextlib.contextmanager
def locked(url: str, name: str) -> Iterator[None]:
    """Hold the study; let go of when the process ends, however it ends.

    A study in PostgreSQL is held there, against all machines; another one on this machine.

    Raises:
        StudyInUse: another process holds it, or this one does.
        ValueError: the database cannot be reached.
    """
    if url.startswith(POSTGRES):
        from studies.storage.advisory_lock import AdvisoryLock  # SQLAlchemy

        holding: contextlib.AbstractContextManager[object] = AdvisoryLock(url, name)
    else:
        holding = _by_file(url, name)
    with holding:
        yield


def lock_files(url: str, name: str) -> tuple[Path, Path]:
    """The file that is locked for a study outside PostgreSQL, and the note beside it of who holds it."""
    elsewhere = Path(tempfile.gettempdir()) / f"learning-rate-study.{sha256(without_password(url).encode()).hexdigest()[:16]}"
    lock_file = Path(f"{sqlite_path(url) or elsewhere}.{name}.lock")
    return lock_file, lock_file.with_suffix(".holder")


@contextlib.contextmanager
def _by_file(url: str, name: str) -> Iterator[None]:
    lock_file, holder = lock_files(url, name)
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise in_use(name, named(holder)) from None
    try:
        write_note(holder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
