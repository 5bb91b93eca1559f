"""Ctrl-C and SIGTERM interrupt a study anywhere but in the midst of a write, which would be left to the database to undo."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_writes = 0  # that are under way
_wanted = False  # an interrupt came meanwhile


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
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.default_int_handler
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
    global _wanted
    if _writes:
        _wanted = True
    else:
        raise KeyboardInterrupt
