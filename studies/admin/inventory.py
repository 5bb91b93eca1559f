"""What studies a storage holds: how many runs each has, what it was set to try, when it last changed; reads no run."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any, NamedTuple

from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialModel
from optuna.trial import TrialState
from sqlalchemy import func, select

from studies.config import StudyConfig
from studies.storage.stored import CONFIGURATION, SELF_CHECK_OF

COUNTED = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "cut", TrialState.FAIL: "failed", TrialState.RUNNING: "running"}


class Runs(NamedTuple):
    """Runs of a study by state, and when the last one began or ended, in local time, "" without runs."""

    complete: int = 0
    cut: int = 0
    failed: int = 0
    running: int = 0
    other: int = 0
    changed: str = ""

    @property
    def total(self) -> int:
        """In whatever state."""
        return self.complete + self.cut + self.failed + self.running + self.other

    def describe(self, plan: StudyConfig | None) -> list[str]:
        """In words, of those that were planned.

        >>> Runs(complete=3, failed=1).describe(StudyConfig(points=2, batch_size=64))
        ['3 of 6 complete', '1 failed']
        """
        planned = "" if plan is None or plan.sampler == "edges" else f" of {plan.n_runs}"  # edges takes as many as it takes
        first = f"{self.complete}{planned} complete"
        others = {"ended early": self.cut, "failed": self.failed, "running": self.running, "waiting": self.other}
        return [first, *(f"{number} {state}" for state, number in others.items() if number)]


def count_runs(storage: RDBStorage) -> dict[int, Runs]:
    """The runs of each study that has any, by its id; the database counts them, as reading thousands takes a while."""
    columns = TrialModel.__table__.c
    changed = func.max(func.coalesce(columns.datetime_complete, columns.datetime_start))
    query = select(columns.study_id, columns.state, func.count(), changed).group_by(columns.study_id, columns.state)
    counts: dict[int, Runs] = {}
    with storage.engine.connect() as connection:
        for study_id, state, number, at in connection.execute(query):
            runs, field = counts.get(study_id, Runs()), COUNTED.get(state, "other")
            last = f"{at.replace(tzinfo=UTC).astimezone():%Y-%m-%d %H:%M}" if at else ""  # Optuna stores UTC
            counts[study_id] = runs._replace(**{field: getattr(runs, field) + number}, changed=max(runs.changed, last))
    return counts


def plan_of(attributes: Mapping[str, Any]) -> StudyConfig | None:
    """What a study tries, by its attributes; None for a self-check, whose plan is not stored, and for what others made."""
    facts: Any = attributes.get(CONFIGURATION)
    keys = ("learning_rate", "points", "batch_size", "seeds", "sampler", "trials")
    try:
        return None if SELF_CHECK_OF in facts else StudyConfig(**{key: facts[key] for key in keys})
    except (KeyError, TypeError, ValueError):
        return None
