"""A study of runs that were trained before, elsewhere: what their logs tell is stored as if it had been trained here."""

import math
import os
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from studies import trials
from studies.admin.adopted import FORMATS, Log
from studies.admin.adopted.choices import Chosen, Loss, choose_loss, choose_runs, shorten, take_where
from studies.admin.adopted.heights import runs_of
from studies.admin.adopted.optuna_study import read_optuna_study
from studies.admin.archive import IMPORTING
from studies.config import StudyConfig, count
from studies.errors import BadInput
from studies.plan import Planned
from studies.storage.checksums import verified_trials
from studies.storage.database_url import without_password
from studies.storage.stored import ADOPTED, CONFIGURATION, ORIGIN, REMARKS, facts_of
from studies.training.runs import Run

ENDINGS = (".db", ".sqlite", ".sqlite3")
BEFORE = f"{IMPORTING}before:"  # what a study is called while another takes its place


def read_logs(sources: Sequence[str], study: str | None = None, format: str | None = None) -> list[Log]:
    """The logs of all runs in files and folders, or in the study of this name in a storage of Optuna's.

    Raises BadInput where there are none, or where the same runs may be there in two formats.
    """
    if study is not None:
        if len(sources) != 1:
            raise BadInput(f"study must be in one storage, got {len(sources)}")
        return read_optuna_study(sources[0], study)
    for source in sources:
        if "://" in source or source.endswith(ENDINGS):
            raise BadInput(f"study must be given, the name of one in {without_password(source)!r}")
        if not os.path.exists(source):
            raise BadInput(f"runs must be files or folders, there is nothing at {source!r}")
    if format not in (None, *FORMATS):
        raise BadInput(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    found = {name: read(list(sources)) for name, read in FORMATS.items() if format in (None, name)}
    found = {name: logs for name, logs in found.items() if logs}
    if not found:
        raise BadInput(f"no log of a run is in {', '.join(map(repr, sources))}: what is read is {', '.join(FORMATS)}")
    if len(found) > 1:
        told = " and ".join(f"{len(logs)} as {name}" for name, logs in found.items())
        raise BadInput(f"format must be given, as the same runs may be there twice: {told}")
    return next(iter(found.values()))


def adopt(
    logs: Sequence[Log],
    storage: RDBStorage,
    name: str,
    *,
    sources: Sequence[str],
    metric: str | None = None,
    untrained_loss: float | None = None,
    where: Sequence[str] = (),
    **options: Any,
) -> optuna.Study:
    """Put the runs that logs tell of into a study, which must be held (``locked``).

    One that was adopted from the same sources is made again of what is there now, in one step, so that no run is in it twice.
    Its remarks tell what was chosen and assumed. options: of ``choose_runs``.

    Raises BadInput where the runs cannot be judged together, where the name is taken by something else, and where runs that the
    study has are no longer there.
    """
    if untrained_loss is not None and not math.isfinite(untrained_loss):
        raise BadInput(f"untrained_loss must be finite, got {untrained_loss}")
    if options.get("batch_size") is not None:
        count("batch_size", options["batch_size"])
    there, all_logs = name in {study.study_name for study in storage.get_all_studies()}, logs
    logs = take_where(logs, where)
    loss = choose_loss(logs, metric)
    chosen, choices = choose_runs(logs, loss, **options)
    runs, assumed = runs_of(chosen, loss, untrained_loss)
    wanted = _configuration(sources, where, loss, options)
    if there:
        _check_same(optuna.load_study(study_name=name, storage=storage), wanted, all_logs)
    n = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    told = f"adopted from {n} of {shorten(sources)}, trained elsewhere; the loss is {shorten([loss.name])}"
    new = IMPORTING + name
    trials.delete(storage, [new, BEFORE + name])  # of one that was killed
    try:
        study = trials.create_study(storage, new, [StudyDirection.MINIMIZE])
        trials.write_configuration(study, wanted)
        trials.set_attribute(study, REMARKS, [told, *assumed, *choices])
        _add(study, runs, chosen)
        trials.rename(storage, ({name: BEFORE + name} if there else {}) | {new: name})
    finally:
        trials.delete(storage, [new, BEFORE + name])
    return optuna.load_study(study_name=name, storage=storage)


def _configuration(sources: Sequence[str], where: Sequence[str], loss: Loss, options: dict[str, Any]) -> dict[str, Any]:
    """What makes it the study that it is: where its runs are from, and how they were read."""
    given = {"where": [*where], **options}
    told = {option: value for option, value in given.items() if value}
    return {ADOPTED: [os.path.normpath(source) for source in sources], "loss": loss.name, **told}


def _check_same(study: optuna.Study, wanted: dict[str, Any], logs: Sequence[Log]) -> None:
    """Raises BadInput where a study was not adopted from the same sources, or has runs whose logs are gone."""
    name, stored = study.study_name, study.user_attrs.get(CONFIGURATION) or {}
    if ADOPTED not in stored:
        raise BadInput(f"name must be new or a study that was adopted, {name!r} is another one: give --name NEW")
    if stored[ADOPTED] != wanted[ADOPTED]:
        raise BadInput(f"study {name!r} was adopted from {shorten(stored[ADOPTED])}: give --name NEW, or those with it")
    if (before := stored.get("where", [])) != wanted.get("where", []):
        told = shorten(before) or "all of them"
        raise BadInput(f"where of study {name!r} must stay as it was adopted ({told}): give --name NEW for other runs")
    gone = sorted({facts_of(trial)[ORIGIN] for trial in verified_trials(study)} - {log.name for log in logs})
    if gone:
        raise BadInput(f"logs that study {name!r} was adopted from are gone ({shorten(gone)}): give --name NEW, or delete it")


def _add(study: optuna.Study, runs: Sequence[Run], chosen: Sequence[Chosen]) -> None:
    rates, sizes = ([*column] for column in zip(*((run.learning_rate, run.batch_size) for run in runs), strict=True))
    config = StudyConfig(learning_rate=[min(rates), max(rates)], points=2, batch_size=sorted(set(sizes)))
    space = trials.space_of(config, [run.seed for run in runs])
    for run, each in zip(runs, chosen, strict=True):
        planned = Planned(run.learning_rate, run.batch_size, run.seed)
        facts: dict[str, Any] = {ORIGIN: each.log.name}
        trials.add_finished(study, space, planned, run, **facts)
