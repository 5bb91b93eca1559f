"""Ctrl-C and SIGTERM interrupt a study anywhere but in the midst of a write, which would be left to the database to undo."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

_writes = 0  # that are under way
_wanted = False  # an interrupt came meanwhile
_came = False  # one came at all
_watcher: Handler | None = None


def watch(handler: Handler) -> None:
    """Have ``handler``, which ends the process, called for all interrupts but the first."""
    global _watcher, _came
    _watcher, _came = handler, False


def came() -> bool:
    """Whether an interrupt came to a watched process: whatever is raised since may be no fault."""
    return _came and _watcher is not None


def come_again() -> None:
    """Where an interrupt was swallowed: one comes at the end of the next write."""
    global _wanted
    _wanted = True


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM, by which Slurm and Docker stop a process, is a KeyboardInterrupt here as Ctrl-C is, so that workers end too.

    Ctrl-C stays what it is where it is ignored or the caller has a handler for it.
    """
    global _wanted
    if threading.current_thread() is not threading.main_thread():  # Python sets handlers nowhere else
        yield
        return
    before = {signal.SIGTERM: signal.getsignal(signal.SIGTERM)}
    if (ctrl_c := signal.getsignal(signal.SIGINT)) in (signal.default_int_handler, _watcher):
        before[signal.SIGINT] = ctrl_c
    for number in before:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        _wanted = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A write: an interrupt comes at its end."""
    global _writes
    _writes += 1
    try:
        yield
    finally:
        _writes -= 1
    if not _writes:
        interrupt_if_wanted()


def interrupt_if_wanted() -> None:
    """Raise KeyboardInterrupt if one came: for a write that waits, and may be given up."""
    global _wanted
    if _wanted:
        _wanted = False
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _came, _wanted
    if came():
        assert _watcher is not None
        _watcher(number, frame)
        return
    _came = True
    if _writes:
        _wanted = True
    else:
        raise KeyboardInterrupt
