"""What is checked before a study is opened, at once and without PyTorch: environment, places, and who else works on it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from studies.config import StudyConfig
from studies.errors import BadInput
from studies.storage.database_url import sqlite_path
from studies.storage.lock import lock_files, locked
from studies.storage.writable import check_storage, require_writable

UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
AS_TRUE = ("1", "y", "yes", "true")  # what ``torch.load`` takes for it


def check_door(config: StudyConfig, out: str | Path | None) -> str:
    """The URL of the storage of a study that can be written, and so can ``out``; makes nothing.

    Raises ValueError, also where PyTorch was told to unpickle whatever a checkpoint holds.
    """
    said = os.environ.get(UNSAFE, "")
    if said.lower() in AS_TRUE:
        raise BadInput(f"{UNSAFE} must not be set: PyTorch would run code that a checkpoint brings with it, got {said!r}")
    url = check_storage(config.storage)
    if out is not None:
        require_writable(Path(out), "out")
    return url


@contextlib.contextmanager
def entered(config: StudyConfig, out: str | Path | None) -> Iterator[None]:
    """Hold the study of a configuration from the door on; where it is not begun after all, nothing is left of that.

    Raises ValueError as ``check_door``, and StudyInUse.
    """
    url = check_door(config, out)
    path = sqlite_path(url)
    assert config.name is not None
    new = [] if path is None else [folder for folder in path.absolute().parents if not folder.exists()]
    with locked(url, config.name):
        try:
            yield
        finally:
            if path is not None and not path.exists():
                for file in lock_files(url, config.name):
                    file.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # somebody else has put something there
                    for folder in new:
                        folder.rmdir()
