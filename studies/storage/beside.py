"""What Optuna's ``Study`` does not show of its storage: the studies beside it, and attributes that are not the user's."""

from typing import Any

import optuna
from optuna.study._frozen import FrozenStudy


def studies_beside(study: optuna.Study) -> list[FrozenStudy]:
    """All studies of the storage of a study, itself among them."""
    return study._storage.get_all_studies()


def study_beside(study: optuna.Study, name: str) -> optuna.Study | None:
    """The study of this name in the storage of another one; None where there is none."""
    try:
        return optuna.load_study(study_name=name, storage=study._storage)
    except KeyError:
        return None


def system_attributes(study: optuna.Study) -> dict[str, Any]:
    """The attributes that Optuna and its dashboard keep, ours that are not to be shown among them."""
    return study._storage.get_study_system_attrs(study._study_id)


def database_of(study: optuna.Study) -> str:
    """What the database of a study is called, "" where it is in memory."""
    engine = getattr(getattr(study._storage, "_backend", None), "engine", None)
    return str(engine.url.database) if engine else ""
