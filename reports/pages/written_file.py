"""A file or folder that is whole or not there, whatever dies while it is written."""

import contextlib
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil


def write_file(path: Path, content: bytes) -> Path:
    """Write beside the file, then put it in place in one step, on the disk before it is seen; its folder is left tidy."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    _remove_left_over(path)
    sys.audit("lr_study.write", f"{path.name} beside")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sys.audit("lr_study.write", f"{path.name} in place")
        os.replace(beside, path)
    except OSError as error:  # of a full disk it does not say where
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


@contextlib.contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, to be filled, that takes its place when the block ends well; otherwise all is as it was."""
    new, old = (path.with_name(f".{path.name}.{which}.{os.getpid()}") for which in ("new", "old"))
    _remove_left_over(path)
    sys.audit("lr_study.write", f"{path.name} beside")
    new.mkdir()
    try:
        yield new
        sys.audit("lr_study.write", f"{path.name} in place")
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)
    finally:
        for scrap in (new, old):
            shutil.rmtree(scrap, ignore_errors=True)
    _sync_folder(path.parent)


def _remove_left_over(path: Path) -> None:
    """Remove what writers of this file or folder left that were killed; one that lives is about to put its own in place."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        number = left.suffix[1:]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk too; systems that cannot sync a folder keep names in their own way."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
