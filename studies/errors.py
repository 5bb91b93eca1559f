"""What ends a command with a sentence instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from reports.errors import BadInput as BadInput


class StudyInUse(RuntimeError):
    """Another process works on this study; the message names it."""


class FailedAlike(RuntimeError):
    """The user's module failed in run after run in the same way; the message tells how."""


class StorageAway(RuntimeError):
    """The database of a study was away for longer than is waited for; the message names it."""


class NotWritten(RuntimeError):
    """A file or database could not be written, or read, such as on a full disk; the message names it."""


class StudyDamaged(BadInput):
    """What is stored of a study is not what was written; the message names it and the way out."""


@contextmanager
def as_bad_input() -> Iterator[None]:
    """What a check of ``lightning_modules`` refuses, which knows nothing of commands, as BadInput."""
    try:
        yield
    except ValueError as error:
        raise BadInput(str(error)) from error
