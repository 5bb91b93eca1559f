"""Optuna Dashboard on a copy in memory of the studies of a storage; the copy follows the storage and never writes to it."""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage, InMemoryStorage, get_storage
from optuna.study._frozen import FrozenStudy
from optuna_dashboard import wsgi

from studies.dashboard.copied import Copied, copy_study, draw_artifacts, fill, note_with_map, unread
from studies.storage.stored import LANDSCAPE, self_check_name, split_name

logger = logging.getLogger(__name__)

SECONDS = 2.0  # between two looks at the storage
SHARE = 0.2  # of a processor goes into reading and judging, at most
PATIENCE = 5.0  # seconds the page of a study waits for it to be read and drawn for the first time
SETTLED = 30.0  # seconds without a change before the pictures of a growing study are drawn again


class Snapshot:
    """The dashboard on a copy of a storage, as a WSGI application.

    At first it knows the names of the studies; ``follow`` reads them, and the page of a study waits a little for that.

    source: the storage, best opened with ``open_to_read``. folder: for pictures; empty, to be removed when all is over.
    """

    def __init__(self, source: BaseStorage, folder: Path) -> None:
        self._source = get_storage(source)  # with Optuna's cache: a finished trial is read once
        self._folder = folder
        self._copied: dict[int, Copied] = {}
        self._shown: set[int] = set()  # of the studies those that are read, in the latest copy
        self._asked: set[int] = set()  # those whose page was opened
        self._news = threading.Condition()
        self._listed = self._list()
        self._publish()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request from the latest copy."""
        if page := re.match(r"/api/studies/(\d+)/?$", environ.get("PATH_INFO", "")):
            study_id = int(page[1])
            self._asked.add(study_id)
            until = time.monotonic() + PATIENCE
            with self._news:
                self._news.wait_for(lambda: study_id in self._shown or study_id not in self._listed, PATIENCE)
                self._news.wait_for(lambda: not self._is_to_be_drawn(study_id), max(until - time.monotonic(), 0.0))
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    @property
    def first_page(self) -> str:
        """Where to begin: the page of the study, where there is but one, or the list of all."""
        names = {study.study_name: study_id for study_id, study in self._listed.items()}
        (study_id, *others) = [names[name] for name in names if not split_name(name)[1]] or [0]
        return f"/dashboard/studies/{study_id}" if study_id and not others else ""

    def follow(self, stopped: threading.Event) -> None:
        """Keep up with the storage until stopped; for a thread of its own."""
        pause, trouble = 0.0, ""
        while not stopped.wait(pause):
            try:
                pause, trouble = self._catch_up(), ""
            except Exception as error:  # the storage may be gone for a while: what was read is shown until it is back
                pause, told = SECONDS, trouble
                trouble = str(error).partition("\n")[0]
                if trouble != told:
                    logger.warning("the storage cannot be read, its last copy is shown: %s", trouble)

    def _list(self) -> dict[int, FrozenStudy]:
        return {study._study_id: study for study in self._source.get_all_studies()}

    def _catch_up(self) -> float:
        """Copy what has changed, or else draw pictures; the seconds until the next look, none while studies were never read.

        Those are read first, for about a second before the others see them.
        """
        began, busy = time.monotonic(), time.thread_time()
        listed, more = self._list(), False
        changed, self._listed = set(listed) != set(self._listed), listed
        self._copied = {study_id: copied for study_id, copied in self._copied.items() if study_id in listed}
        order = sorted(listed, key=lambda study_id: (study_id not in self._copied, study_id in self._asked, study_id))
        for study_id in reversed(order):
            more = changed and study_id not in self._copied and time.monotonic() - began > 1
            if more:
                break
            changed |= self._copy(listed[study_id])
        if changed:
            self._publish()
        busy = time.thread_time() - busy  # without the pictures, each of which is drawn once
        if not changed and (drawn := next(filter(self._is_to_be_drawn, reversed(order)), None)) is not None:
            self._draw(drawn)
            self._publish()
        waiting = more or any(map(self._is_to_be_drawn, order))
        return 0.0 if waiting else max(SECONDS, busy * (1 / SHARE - 1))

    def _copy(self, study: FrozenStudy) -> bool:
        """Copy a study again if it has changed; whether it had."""
        study_id, check = study._study_id, self_check_name(study.study_name)
        ids = [study_id, *(other._study_id for other in self._listed.values() if other.study_name == check)]
        read = [self._source.get_all_trials(each, deepcopy=False) for each in ids]
        states = [[(trial.state, len(trial.params)) for trial in trials] for trials in read]  # one begins without parameters
        seen = (study.user_attrs, study.system_attrs, states)
        known = self._copied.get(study_id)
        if known is not None and known.seen == seen:
            return False
        copied = copy_study(self._source, study)._replace(seen=seen)
        self._copied[study_id] = copied if known is None else copied._replace(since=time.monotonic())
        for picture in known.pictures.values() if known and known.pictures else ():
            FileSystemArtifactStore(self._folder).remove(json.loads(picture)["artifact_id"])
        return True

    def _is_to_be_drawn(self, study_id: int) -> bool:
        """Whether the pictures of a study are missing that has settled, and that somebody looks at or may look at first."""
        study = self._copied.get(study_id)
        if study is None or study.judged is None or study.pictures is not None:
            return False
        newest = max(each for each, copied in self._copied.items() if copied.judged is not None)
        return study_id in self._asked | {newest} and time.monotonic() - study.since > SETTLED

    def _draw(self, study_id: int) -> None:
        """Draw the pictures of a study."""
        study, listed = self._copied[study_id], self._listed[study_id]
        assert study.judged is not None
        try:
            pictures = draw_artifacts(study.judged, listed.user_attrs.get(LANDSCAPE), self._folder)
        except Exception as error:  # they are the least of what is shown
            logger.warning("pictures of study %r cannot be drawn: %r", listed.study_name, error)
            pictures = {}
        attributes = {**study.system_attrs, **note_with_map(study.system_attrs, pictures, study_id)}
        self._copied[study_id] = study._replace(pictures=pictures, system_attrs=attributes)

    def _publish(self) -> None:
        """Put a new copy in place of the last one: the dashboard's own caches go with it, requests under way keep theirs."""
        storage = InMemoryStorage()
        for study_id, study in sorted(self._listed.items()):
            fill(storage, study, self._copied.get(study_id) or unread(study))
        app = wsgi(storage, artifact_store=_Pictures(self._folder))
        with self._news:
            self._app, self._shown = app, set(self._copied)
            self._news.notify_all()


class _Pictures(FileSystemArtifactStore):
    """Pictures that outlive a study deleted from the copy, which may come back."""

    def remove(self, artifact_id: str) -> None:
        """Nothing."""
