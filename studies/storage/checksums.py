"""Checksums over what is stored of a study, as damage that leaves a database whole can change any value in it.

The checksum of a run that finished is among its facts, that of a run that failed an attribute of its trial, and that of the
configuration an attribute of the study, which says as well from which trial on each has one: older ones are taken as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any
from zlib import crc32

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from studies.errors import StorageAway, StudyDamaged

CONFIGURATION = "configuration"  # attribute of a study: what it is
CHECKSUM = "checksum"  # among the facts of a run, or attribute of a trial that failed
OF_STUDY = "learning_rates:checksums"  # system attribute of a study, which Optuna Dashboard does not show
PARAMS = ("learning_rate", "batch_size", "seed")
ATTRIBUTES = ("facts", "curves", "final_height", "nonfinite_at", "error", "traceback")  # of a trial, as the tables read them


def run_checksum(params: Mapping[str, Any], value: float | None, attributes: Mapping[str, Any]) -> int:
    """Of all that the tables read of a run: its parameters, its value, None if it failed, and the attributes of its trial."""
    numbers = [float(each) or 0.0 if isinstance(each, Real) else None for each in (*map(params.get, PARAMS), value)]
    read = {name: attributes[name] for name in ATTRIBUTES if name in attributes}
    if isinstance(facts := read.get("facts"), Mapping):
        read["facts"] = {name: fact for name, fact in facts.items() if name != CHECKSUM}
    return _crc([numbers, read])


def failure(params: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a trial that failed, its error among them, with their checksum."""
    return {**attributes, CHECKSUM: run_checksum(params, None, attributes)}


def write_configuration(study: optuna.Study, wanted: Mapping[str, Any]) -> None:
    """Store what a study is; its checksum first, beside that of what it was, so that one is right whenever this is killed."""
    stored, known = study.user_attrs.get(CONFIGURATION), _known(study)
    since = known["since"] if known else len(study.get_trials(deepcopy=False))
    either = {_study_checksum(study, since, each) for each in (stored, wanted) if each is not None}
    right = {"since": since, "checksums": sorted(either)}
    if known != right:
        sys.audit("lr_study.write", "checksum of the configuration")
        study._storage.set_study_system_attr(study._study_id, OF_STUDY, right)
    if stored != wanted:
        sys.audit("lr_study.write", "configuration")
        study.set_user_attr(CONFIGURATION, wanted)


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
        engine = getattr(getattr(study._storage, "_backend", None), "engine", None)
        place = f" in {engine.url.database!r}" if engine else ""
        remedy = "restore a copy of it, or train again under another name"
        raise StudyDamaged(f"study {study.study_name!r}{place} is damaged ({fault}): {remedy}")
    return trials


def _faults(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Iterator[str]:
    known, configuration = _known(study), study.user_attrs.get(CONFIGURATION)
    new = configuration is None and not trials  # and killed before it was more
    if known and not new and _study_checksum(study, known["since"], configuration) not in known["checksums"]:
        yield "its configuration does not match its checksum"
    since = known["since"] if known else len(trials)
    for trial in trials:
        if fault := _fault(trial, expected=trial.number >= since):
            yield f"trial {trial.number} {fault}"


def _fault(trial: FrozenTrial, *, expected: bool) -> str:
    """What is wrong with a trial, "" when nothing is. expected: it was stored with all that is looked at here."""
    complete, failed = trial.state is TrialState.COMPLETE, trial.state is TrialState.FAIL
    stored = (trial.user_attrs.get("facts", {}) if complete else trial.user_attrs).get(CHECKSUM)
    if stored is not None and trial.state.is_finished():
        if stored != run_checksum(trial.params, trial.values[0] if complete else None, trial.user_attrs):
            return "does not match its checksum"
    elif expected and complete:
        return "has lost its checksum"
    if expected and failed and trial.params and "error" not in trial.user_attrs:
        return "failed and does not say why"
    if expected and (trial.state is TrialState.PRUNED or trial.state.is_finished() != (trial.datetime_complete is not None)):
        return f"cannot be {trial.state.name}"
    return ""


def _known(study: optuna.Study) -> dict[str, Any] | None:
    """The first trial with a checksum, and the checksums of which one is right; None for a study older than checksums."""
    known: dict[str, Any] | None = study._storage.get_study_system_attrs(study._study_id).get(OF_STUDY)
    return known


def _study_checksum(study: optuna.Study, since: int, configuration: Any) -> int:
    return _crc([since, [direction.name for direction in study.directions], configuration])


def _crc(content: Any) -> int:
    return crc32(json.dumps(content, sort_keys=True).encode())
