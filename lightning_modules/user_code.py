"""Where in the user's code something is, for sentences that name it."""

import functools
import inspect
import os
import traceback
from collections.abc import Hashable
from pathlib import Path
from types import TracebackType
from typing import Any

STANDARD_LIBRARY = Path(os.__file__).parent
MOST_SAID = 600  # characters of what an exception says: PyTorch lists each weight that is missing
OURS = [Path(__file__).parents[1] / package for package in ("lightning_modules", "reports", "studies")]


def where(owner: object, method: str) -> str:
    """A method of an object with its place, such as ``Net.training_step (models.py:31)``; without a file its name alone."""
    if not hasattr(owner, method):
        return type(owner).__name__
    name = f"{type(owner).__name__}.{method}"
    function: Any = inspect.unwrap(getattr(type(owner), method, getattr(owner, method)))
    try:
        file, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    except (OSError, TypeError):
        return name
    return f"{name} ({_short(str(file))}:{line})"


def last_line_of(trace: TracebackType | None) -> str:
    """The innermost place of a traceback that belongs to the user, such as ``forward (models.py:40)``; "" if there is none."""
    frames = [frame for frame in traceback.extract_tb(trace) if _is_users(frame.filename)]
    return f"{frames[-1].name} ({_short(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""


def told_in_line(error: BaseException) -> str:
    """What was raised, with its place in the user's code, on one line."""
    place, words = last_line_of(error.__traceback__), one_line(error)
    return type(error).__name__ + (f" in {place}" if place else "") + (f": {words}" if words else "")


def one_line(words: object) -> str:
    r"""Words on one line, cut where they are very many.

    >>> one_line("Missing key(s):\n  weight, bias")
    'Missing key(s): weight, bias'
    """
    line = " ".join(str(words).split())
    return line if len(line) <= MOST_SAID else f"{line[:MOST_SAID]}..."


@functools.cache
def is_users_class(kind: Hashable) -> bool:
    """Whether a class was written by the user: in a file of theirs, or in a notebook."""
    assert isinstance(kind, type)
    if kind.__module__ == "__main__":
        return True
    try:
        return _is_users(str(inspect.getsourcefile(kind)))
    except (OSError, TypeError):
        return False


def is_ours(file: str) -> bool:
    """Whether a file is of this project."""
    return any(Path(file).is_relative_to(package) for package in OURS)


def _is_users(file: str) -> bool:
    installed = "site-packages" in Path(file).parts or Path(file).is_relative_to(STANDARD_LIBRARY)
    return Path(file).exists() and not installed and not is_ours(file)


def _short(file: str) -> str:
    """Relative to the current folder where it is below it."""
    return os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file
