"""Hold a study in PostgreSQL, by a lock that lasts as long as a connection."""

import contextlib
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from studies.storage.database_url import not_opened
from studies.storage.holder import in_use, this_process

# Notice within about a minute that the other side is gone without a word, instead of after hours; seconds, milliseconds.
KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
LIBPQ = {"connect_timeout": 10, "tcp_user_timeout": 60_000, **KEEPALIVES}
GONE_SECONDS = 70  # after which the server has noticed, too
NAME_BYTES = 63  # PostgreSQL cuts the name of an application there
SAY = "SELECT set_config('application_name', :me, false), " + ", ".join(
    f"set_config('tcp_{key}', '{value}', false)" for key, value in KEEPALIVES.items()
)
HOLDER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid::bigint << 32 | objid::bigint = :key
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
PREFIX = "learning-rate study: "


class AdvisoryLock:
    """A context in which this process holds the study ``name`` of a database.

    Entering raises StudyInUse when another connection holds it, naming its process, and ValueError when the server is away.
    """

    def __init__(self, url: str, name: str) -> None:
        self.url, self._name = url, name
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=LIBPQ)
        self._key = int.from_bytes(sha256(f"learning-rate study {name}".encode()).digest()[:8], "big", signed=True)
        self._me = (PREFIX + this_process()).encode()[:NAME_BYTES].decode(errors="ignore")
        self._connection: Connection | None = None

    def __enter__(self) -> None:
        try:
            self._take(patience=0)
        except DBAPIError as error:
            raise not_opened(self.url, error) from error
        _held.append(self)

    def __exit__(self, *_: object) -> None:
        _held.remove(self)
        with contextlib.suppress(DBAPIError):  # the server may be away; it forgets the lock with the connection, but later
            self._ask("SELECT pg_advisory_unlock(:key)")
        self._close()

    def renew(self) -> None:
        """Take the lock again if it went down with its connection.

        Raises StudyInUse when another process was faster, DBAPIError when the server is away.
        """
        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
                return
            except DBAPIError:
                self._close()
        self._take(patience=GONE_SECONDS)

    def _take(self, patience: float) -> None:
        """patience: seconds in which the server may notice that a former connection of this process is gone."""
        until = time.monotonic() + patience
        self._connection = self._engine.connect()
        try:
            self._connection.execute(text(SAY), {"me": self._me})
            while not self._ask("SELECT pg_try_advisory_lock(:key)"):
                who = self._ask(HOLDER)
                if who != self._me or time.monotonic() > until:
                    raise in_use(self._name, who and who.removeprefix(PREFIX))
                time.sleep(1)
        except BaseException:
            self._close()
            raise

    def _ask(self, question: str) -> Any:
        return self._connection.execute(text(question), {"key": self._key}).scalar() if self._connection else None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # says nothing to a server that may be gone
            self._connection.close()
            self._connection = None


_held: list[AdvisoryLock] = []


def renew_locks(url: str) -> None:
    """Before a write: hold again what this process held in the database; as ``AdvisoryLock.renew``."""
    for lock in _held:
        if lock.url == url:
            lock.renew()


@contextlib.contextmanager
def one_at_a_time(url: str) -> Iterator[None]:
    """Wait until no other process is in here with the same database."""
    lock = AdvisoryLock(url, "")
    with lock._engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": lock._key})
        yield
