"""Who holds a study: how a process calls itself, and the note that it leaves beside a lock."""

import contextlib
import os
import re
import socket
import sys
import time
from pathlib import Path

import psutil

from studies.errors import StudyInUse

UNNAMED_SECONDS = 0.5  # how long who has just taken the lock is given to say who it is


def this_process() -> str:
    """Who holds what is held here."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def in_use(name: str, who: str | None) -> StudyInUse:
    """The refusal of a study that is held."""
    return StudyInUse(f"study {name!r} is being worked on by {who or 'another process'}: wait for it, or choose another name")


def write_note(holder: Path) -> None:
    """Note that this process holds a lock; raises OSError that names the file, as that of a full disk does not."""
    sys.audit("lr_study.write", "holder")
    try:
        holder.write_text(this_process())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(holder)) from error


def noted(holder: Path) -> str | None:
    """Who holds a lock by what it wrote; None where there is no note, or of a process that was killed."""
    with contextlib.suppress(OSError):
        who = holder.read_text()
        said = re.fullmatch(r"process (\d+) on (.+)", who)
        if said and (said[2] != socket.gethostname() or psutil.pid_exists(int(said[1]))):
            return who
    return None


def named(holder: Path) -> str | None:
    """Who holds a lock; None when it does not say so for a while, or let go."""
    until = time.monotonic() + UNNAMED_SECONDS
    while time.monotonic() < until:
        if who := noted(holder):
            return who
        time.sleep(0.02)
    return None
