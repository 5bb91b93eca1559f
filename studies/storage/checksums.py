"""Checksums over what is stored of a study, as damage that leaves a database whole can change any value in it.

The checksum of a run that finished is among its facts, that of a run that failed an attribute of its trial, and that of the
configuration an attribute of the study, which says as well from which trial on each has one: older ones are taken as they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from reports.judging.decided import BY_SEARCH
from studies.errors import StorageAway, StudyDamaged
from studies.storage.beside import database_of, system_attributes
from studies.storage.stored import CHECKSUM, CHECKSUMS, CONFIGURATION, ERROR, FACTS, checksum, run_checksum


def study_checksums(study: optuna.Study, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be known before ``wanted`` is stored as the configuration of a study.

    The checksums of what it was and of what it will be, so that one is right whenever this is killed, and the first trial
    that must have one.
    """
    stored, known = study.user_attrs.get(CONFIGURATION), known_checksums(study)
    since = known["since"] if known else len(study.get_trials(deepcopy=False))
    either = {_study_checksum(study, since, each) for each in (stored, wanted) if each is not None}
    return {"since": since, "checksums": sorted(either)}


def known_checksums(study: optuna.Study) -> dict[str, Any] | None:
    """The first trial with a checksum, and the checksums of which one is right; None for a study older than checksums."""
    return system_attributes(study).get(CHECKSUMS)


def verified_trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials of a study, not to be changed.

    Raises StudyDamaged when they, or its configuration, are not what was stored.
    """
    try:
        trials = study.get_trials(deepcopy=False)
        fault = next(_faults(study, trials), "")
    except (SQLAlchemyError, StorageInternalError, StorageAway):  # which says nothing of what is stored
        raise
    except Exception as error:  # whatever Optuna comes upon in what it did not write
        fault = f"it cannot be read, {type(error).__name__}: {' '.join(str(error).split())}"
    if fault:
        place = f" in {database_of(study)!r}" if database_of(study) else ""
        remedy = "restore a copy of it, or train again under another name"
        raise StudyDamaged(f"study {study.study_name!r}{place} is damaged ({fault}): {remedy}")
    return trials


def _faults(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Iterator[str]:
    known, configuration = known_checksums(study), study.user_attrs.get(CONFIGURATION)
    new = configuration is None and not trials  # and killed before it was more
    if known and not new and _study_checksum(study, known["since"], configuration) not in known["checksums"]:
        yield "its configuration does not match its checksum"
    since = known["since"] if known else len(trials)
    for trial in trials:
        if fault := _fault(trial, expected=trial.number >= since):
            yield f"trial {trial.number} {fault}"


def _fault(trial: FrozenTrial, *, expected: bool) -> str:
    """What is wrong with a trial, "" when nothing is. expected: it was stored with all that is looked at here."""
    cut, failed = trial.state is TrialState.PRUNED, trial.state is TrialState.FAIL
    ran = cut or trial.state is TrialState.COMPLETE
    stored = (trial.user_attrs.get(FACTS, {}) if ran else trial.user_attrs).get(CHECKSUM)
    if stored is not None and trial.state.is_finished():
        if stored != run_checksum(trial.params, trial.values[0] if trial.values else None, trial.user_attrs):
            return "does not match its checksum"
    elif expected and ran:
        return "has lost its checksum"
    if expected and failed and trial.params and ERROR not in trial.user_attrs:
        return "failed and does not say why"
    by_search = ran and trial.user_attrs.get(FACTS, {}).get("ended_early") == BY_SEARCH
    if expected and (cut != by_search or trial.state.is_finished() != (trial.datetime_complete is not None)):
        return f"cannot be {trial.state.name}"
    return ""


def _study_checksum(study: optuna.Study, since: int, configuration: Any) -> int:
    return checksum([since, [direction.name for direction in study.directions], configuration])
