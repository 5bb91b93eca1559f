"""What a storage is called: an SQLite file, or the URL of a database, which is shown without its password."""

import re
from pathlib import Path

from studies.errors import BadInput

SQLITE = "sqlite:///"
POSTGRES = "postgresql+psycopg://"  # psycopg 3; without a driver in its name SQLAlchemy 2.0 would look for psycopg2


def storage_url(storage: str) -> str:
    """The URL of a storage; a bare path means an SQLite file."""
    if not isinstance(storage, str) or not storage.strip() or "\0" in storage:
        raise BadInput(f"storage must be an SQLite file or a URL such as postgresql://host/name, got {storage!r}")
    if storage in ("sqlite://", SQLITE) or ":memory:" in storage:
        raise BadInput(f"storage must be a file when it is SQLite, a database in memory would be lost, got {storage!r}")
    if storage.startswith(SQLITE):
        return storage
    if "://" not in storage:
        return SQLITE + storage
    if re.search(r"\s", storage) or storage.partition("?")[0].count("@") > 1:  # the rest would be read as the host
        raise BadInput(
            f"storage must be a URL whose password has %40 for @ and %20 for a blank, got {without_password(storage)!r}"
        )
    return re.sub(r"^postgres(ql)?://", POSTGRES, storage)


def sqlite_path(url: str) -> Path | None:
    """The file behind an SQLite URL, its name as it stands there; None for other databases."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def engine_url(url: str) -> str:
    """The URL as Optuna is given it, which fills in braces, and opens with SQLAlchemy, to which % and ? mean something."""
    path = sqlite_path(url)
    if path is not None:
        from sqlalchemy.engine import URL  # a fifth of a second, which a refused launch does not need

        url = URL.create("sqlite", database=str(path)).render_as_string()
    return url.replace("{", "{{").replace("}", "}}")


def without_password(text: str) -> str:
    """A URL, or a text that holds one, without its password: all between the user and the last @, and ``password=``.

    >>> without_password("postgresql://me:p@ss:w/rd@host/name?sslpassword=x&sslmode=require")
    'postgresql://me:***@host/name?sslpassword=***&sslmode=require'
    """
    text = re.sub(r"(://[^:@/?\s]*):.*@", r"\1:***@", text, flags=re.DOTALL)
    return re.sub(r"([?&]\w*password=)(?!\*\*\*)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)


def reason_of(error: BaseException) -> str:
    """What the driver of the database says, in one line, from an error of SQLAlchemy's or Optuna's."""
    said = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
    return " ".join(without_password(str(said)).split())


def not_opened(url: str, error: BaseException) -> BadInput:
    """The refusal of a database that does not answer, or not as it should."""
    return BadInput(f"storage {str(sqlite_path(url) or without_password(url))!r} could not be opened: {reason_of(error)}")
