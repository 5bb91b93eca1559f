"""Where a study is kept and where its report goes: checked by reading alone, and quickly, as nothing heavy is imported."""

import os
import tempfile
from pathlib import Path

from studies.errors import BadInput
from studies.storage.database_url import POSTGRES, sqlite_path, storage_url, without_password

INSTALL = "pip install 'learning-rate-studies[postgres]'"


def require_writable(folder: Path, what: str) -> None:
    """Raise ValueError unless a file could be made in ``folder``, or in the folder it would be made in; leaves nothing."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise BadInput(f"{what} must be a place that can be written, got {str(folder)!r}: {error.strerror}") from error


def check_storage(storage: str, *, must_exist: bool = False) -> str:
    """The URL of a storage that can be used; reads at most, writes nothing.

    Raises ValueError for a file that is not Optuna's, a folder that cannot be written, or, with ``must_exist``, no file.
    """
    url = storage_url(storage)
    path = sqlite_path(url)
    if path is None:
        _check_driver(url)
        return url
    if path.is_dir():
        raise BadInput(f"storage must be a file, {str(path)!r} is a folder")
    if must_exist and not path.exists():
        raise BadInput(f"storage {str(path)!r} does not exist: give the file that launch_study wrote")
    if not must_exist:
        require_writable(path.parent, "storage")
        if path.exists() and not os.access(path, os.W_OK):
            raise BadInput(f"storage must be a file that can be written, {str(path)!r} is read-only")
    if path.exists():
        from studies.storage.sqlite_file import check_database  # Optuna

        check_database(path)
    return url


def _check_driver(url: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    kind = url.partition("://")[0]
    try:
        make_url(url).get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError, ValueError) as error:  # ValueError: a port that is no number
        hint = f"the driver of PostgreSQL is missing: {INSTALL}" if url.startswith(POSTGRES) else without_password(str(error))
        raise BadInput(f"storage must be a database that can be reached from here, got one of kind {kind!r}: {hint}") from error
