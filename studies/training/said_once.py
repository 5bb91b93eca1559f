"""Each warning once in a launch, though every run gives it again, and whichever of its processes does."""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

FOLDER = "LR_STUDY_SAID"  # environment variable, which workers inherit: holds an empty file for each warning that was shown
MOST = 1_000  # warnings of a process that are looked up: a module may say something else in every step
TERMINAL = (logging.StreamHandler, type(logging.lastResort))  # no subclass of them, which writes elsewhere

_seen: set[str] = set()


@contextlib.contextmanager
def warnings_once() -> Iterator[None]:
    """Inside, a warning of Python's ``warnings`` or ``logging`` comes to the terminal once, in this process and its workers."""
    if FOLDER in os.environ:  # it is inside already
        yield
        return
    with contextlib.ExitStack() as inside:
        try:
            os.environ[FOLDER] = inside.enter_context(tempfile.TemporaryDirectory(prefix="said-", ignore_cleanup_errors=True))
        except OSError:  # a full disk: then they come as often as they come
            yield
            return
        before = warnings.showwarning
        listen()
        try:
            yield
        finally:
            del os.environ[FOLDER]
            _seen.clear()
            warnings.showwarning = before
            for handler in _handlers():
                handler.removeFilter(_is_new)


def listen() -> None:
    """Leave out what was said, for as long as this process lives: a worker's, where the launch wants that."""
    if FOLDER not in os.environ:
        return
    show = warnings.showwarning

    def show_new(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **more: Any) -> None:
        if _first(f"{filename} {lineno} {category.__name__} {message}"):
            show(message, category, filename, lineno, *rest, **more)

    warnings.showwarning = show_new
    for handler in _handlers():
        handler.addFilter(_is_new)


def _handlers() -> Iterator[logging.Handler]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [logging.lastResort, *(handler for logger in loggers for handler in getattr(logger, "handlers", ()))]
    yield from (handler for handler in handlers if type(handler) in TERMINAL)


def _is_new(record: logging.LogRecord) -> bool:
    try:
        return record.levelno != logging.WARNING or _first(f"{record.name} {record.getMessage()}")
    except Exception:  # whatever its arguments are, which is told where it is written
        return True


def _first(text: str) -> bool:
    """Whether nobody in this launch has said it."""
    if text in _seen:
        return False
    if len(_seen) >= MOST:
        return True
    _seen.add(text)
    try:
        Path(os.environ[FOLDER], f"{crc32(text.encode(errors='replace')):08x}").touch(exist_ok=False)
    except FileExistsError:
        return False
    except (OSError, KeyError):  # the launch is over
        return True
    return True
