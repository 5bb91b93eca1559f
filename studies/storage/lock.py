"""Hold a study for this process; who comes second is told who holds it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from studies.errors import StudyInUse
from studies.storage.database_url import POSTGRES, sqlite_path, without_password

UNNAMED_SECONDS = 0.5  # how long who has just taken the lock is given to say who it is


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


def this_process() -> str:
    """Who holds what is held here."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def in_use(name: str, who: str | None) -> StudyInUse:
    """The refusal of a study that is held."""
    return StudyInUse(f"study {name!r} is being worked on by {who or 'another process'}: wait for it, or choose another name")


def lock_files(url: str, name: str) -> tuple[Path, Path]:
    """The file that is locked for a study outside PostgreSQL, and the note beside it of who holds it."""
    elsewhere = Path(tempfile.gettempdir()) / f"learning-rate-study.{sha256(without_password(url).encode()).hexdigest()[:16]}"
    lock_file = Path(f"{sqlite_path(url) or elsewhere}.{name}.lock")
    return lock_file, lock_file.with_suffix(".holder")


def noted(holder: Path) -> str | None:
    """Who holds a lock by what it wrote; None where there is no note, or of a process that was killed."""
    with contextlib.suppress(OSError):
        who = holder.read_text()
        said = re.fullmatch(r"process (\d+) on (.+)", who)
        if said and (said[2] != socket.gethostname() or psutil.pid_exists(int(said[1]))):
            return who
    return None


@contextlib.contextmanager
def _by_file(url: str, name: str) -> Iterator[None]:
    lock_file, holder = lock_files(url, name)
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise in_use(name, _named(holder)) from None
    try:
        sys.audit("lr_study.write", "holder")
        try:
            holder.write_text(this_process())
        except OSError as error:  # of a full disk: it does not say where
            raise OSError(error.errno, error.strerror, str(holder)) from error
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _named(holder: Path) -> str | None:
    """Who holds a lock; None when it does not say so for a while, or let go."""
    until = time.monotonic() + UNNAMED_SECONDS
    while time.monotonic() < until:
        if who := noted(holder):
            return who
        time.sleep(0.02)
    return None
