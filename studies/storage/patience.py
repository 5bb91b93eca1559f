"""Optuna's storage in a database server that may be away for a while: what it was asked waits and is asked again."""

import functools
import logging
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, OperationalError

from studies.errors import StorageAway
from studies.storage.advisory_lock import LIBPQ, renew_locks
from studies.storage.database_url import POSTGRES, engine_url, reason_of, without_password
from studies.storage.interrupts import interrupt_if_wanted

logger = logging.getLogger(__name__)

PATIENCE = 600.0  # seconds: a server that is updated or moved is back by then, a night is not spent waiting
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts, each twice the one before
READS = (
    "get_study_id_from_name get_study_name_from_id get_study_directions get_study_user_attrs get_study_system_attrs"
    " get_all_studies get_trial get_trial_id_from_study_id_trial_number _get_trials _get_best_trial_id"
).split()
WRITES = (  # that may be done twice
    "set_study_user_attr set_study_system_attr _set_trial_param set_trial_intermediate_value set_trial_user_attr"
    " set_trial_system_attr"
).split()

T = TypeVar("T")


class _Away(Exception):
    """The server did not answer; passes through Optuna, which would itself try again without looking."""


class PatientStorage(RDBStorage):
    """Waits up to ``PATIENCE`` seconds for a server that is away, then raises StorageAway; Ctrl-C ends the waiting.

    The answer to a write may be lost though the write was kept: before it is repeated, what is there is looked at. Locks of
    studies are lost with the server, so before each write they are held again, or StudyInUse is raised.
    """

    def __init__(self, url: str, **options: Any) -> None:
        """url: from ``check_storage``; options: of RDBStorage."""
        connect_args = LIBPQ if url.startswith(POSTGRES) else {}
        super().__init__(engine_url(url), {"pool_pre_ping": True, "connect_args": connect_args}, **options)
        self._away_since: float | None = None
        self._patience = PATIENCE
        event.listen(self.engine, "handle_error", _tell_away)
        weakref.finalize(self, self.engine.dispose)  # psycopg warns of connections that nobody closed

    def _patiently(self, attempt: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """What ``attempt`` returns; after it was interrupted, ``again`` is called in its place."""
        pause = FIRST_PAUSE
        while True:
            try:
                result = attempt()
                break
            except (_Away, OperationalError, InterfaceError) as error:
                self._wait(pause, error)
            attempt, pause = again or attempt, min(2 * pause, LONGEST_PAUSE)
        if self._away_since is not None:
            logger.warning("storage %s is back after %.0f s", without_password(self.url), time.monotonic() - self._away_since)
            self._away_since = None
        return result

    def _wait(self, pause: float, error: Exception) -> None:
        reason = reason_of(error)
        if self._away_since is None:
            self._away_since = time.monotonic()
            minutes = self._patience / 60
            logger.warning("storage %s is away, waiting for up to %g minutes: %s", without_password(self.url), minutes, reason)
        if time.monotonic() - self._away_since > self._patience:
            raise StorageAway(
                f"storage {without_password(self.url)!r} is away, what it acknowledged is kept: {reason}"
            ) from error
        try:
            time.sleep(pause)
            interrupt_if_wanted()
        except KeyboardInterrupt:
            self._patience = 0.0  # nobody waits any more, to close trials that run neither
            raise

    def _write(self, attempt: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        def holding(write: Callable[[], T]) -> T:
            renew_locks(self.url)
            return write()

        return self._patiently(functools.partial(holding, attempt), functools.partial(holding, again or attempt))

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """As Optuna's."""
        create = functools.partial(super().create_new_study, directions, study_name)

        def again() -> int:
            try:
                return create()
            except DuplicatedStudyError:  # by the attempt before: only who holds a study makes it
                assert study_name is not None
                return self.get_study_id_from_name(study_name)

        return self._write(create, again)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        create = functools.partial(super()._create_new_trial, study_id, template_trial)
        newest = self._patiently(self._newest_trial_id)

        def again() -> FrozenTrial:
            for trial in self._get_trials(study_id, None, set(), newest):
                if _contents(trial) == _contents(template_trial):
                    return trial
            return create()

        return self._write(create, again)

    def _newest_trial_id(self) -> int:
        with self.engine.connect() as connection:
            return connection.execute(text("SELECT MAX(trial_id) FROM trials")).scalar() or 0

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's."""
        change = functools.partial(super().set_trial_state_values, trial_id, state, values)

        def again() -> bool:
            trial = self.get_trial(trial_id)
            if trial.state == state and (values is None or trial.values == list(values)):
                return True
            return change()

        return self._write(change, again)


def _waiting(method: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def patient(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        wait = self._write if writes else self._patiently
        return wait(functools.partial(method, self, *args, **kwargs))

    return patient


for _name in (*READS, *WRITES):
    setattr(PatientStorage, _name, _waiting(getattr(RDBStorage, _name), writes=_name in WRITES))


def _contents(trial: FrozenTrial | None) -> tuple[Any, ...]:
    """What makes a trial the one that was to be created; None is one that is asked for without parameters."""
    if trial is None:
        return TrialState.RUNNING, {}, {}, {}, None
    return trial.state, trial.params, trial.user_attrs, trial.system_attrs, trial.values


def _tell_away(context: ExceptionContext) -> None:
    """Listens to the errors of an engine."""
    error = context.sqlalchemy_exception
    if not context.is_pre_ping and (context.is_disconnect or isinstance(error, OperationalError)):
        raise _Away(str(context.original_exception))
