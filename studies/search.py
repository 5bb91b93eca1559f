"""Open a study, plan what it is missing and have it trained; start again and only what is missing is trained."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from reports.judging.self_check import rates_to_check
from studies.config import StudyConfig
from studies.driver import Driver, OnRun, close_orphans
from studies.next_run import OPTIONS, given_options
from studies.storage.checksums import verified_trials, write_configuration
from studies.storage.database_url import sqlite_path, storage_url
from studies.storage.door import entered
from studies.storage.lock import locked
from studies.storage.opening import open_storage, self_check_name
from studies.tables import CONFIGURATION, REMARKS
from studies.training.fixed import look_at
from studies.training.preflight import preflight
from studies.training.ray_actors import Actors
from studies.training.workload import Workload

logger = logging.getLogger(__name__)

Cell = tuple[float, int, int]  # learning rate, batch size, seed


def run_study(config: StudyConfig, *, out: str | Path | None = None, on_run: OnRun | None = None) -> optuna.Study:
    """Train what is missing of a study and return it, finished.

    Args:
        config: what to study.
        out: a folder that will be written afterwards, ``outputs/NAME`` unless given; checked at the door so that no training
            is lost to it. Loggers and checkpoints of the user's write into its ``runs``.
        on_run: called as ``on_run(study, finished, planned)`` at the start and after every run.

    Raises:
        ValueError: bad input, before anything is trained.
        StudyInUse: another process works on this study.
        FailedAlike: the module failed three times in a row in the same way, or in every run.
        KeyboardInterrupt: Ctrl-C; what finished is kept, the same call goes on.
    """
    with entered(config, out):
        return train_study(config, out=out, on_run=on_run)


def train_study(config: StudyConfig, *, out: str | Path | None = None, on_run: OnRun | None = None) -> optuna.Study:
    """``run_study`` for whoever has entered the study, so that its storage is checked once."""
    assert config.name is not None
    workload, url = Workload.of_config(config), storage_url(config.storage)
    remarks = preflight(
        workload, learning_rates=config.learning_rate, batch_sizes=_batch_sizes(config), seed=config.seed_values[0]
    )
    for remark in remarks:
        logger.warning("%s", remark)
    with _actors(config, url, config.name, config.n_runs) as actors:
        study = _open_study(url, config.name, configuration(config, workload))
        study.sampler = _sampler(config.sampler, len(study.get_trials(deepcopy=False)))
        study.set_user_attr(OPTIONS, given_options(config))
        study.set_user_attr(REMARKS, remarks)
        if not workload.is_ours:  # the default of a model of ours is nobody's choice
            study.set_user_attr("own_learning_rate", look_at(workload, max(_batch_sizes(config))).own)
        plan = _missing(study, config)
        Driver(study, config, workload, plan, config.n_runs, runs_folder(config, out), on_run or _silent, actors).run()
    return study


def run_self_check(
    config: StudyConfig,
    recommendations: pd.DataFrame,
    *,
    seeds: int,
    out: str | Path | None = None,
    on_run: OnRun | None = None,
) -> optuna.Study:
    """Train the recommended learning rates and the ends of their intervals on fresh seeds, what is missing of them.

    Args:
        config: of the finished study; the fresh seeds follow on its own.
        recommendations: as ``reports.judging.recommendation.recommend`` returns them.
        seeds: fresh seeds for each learning rate.
        out, on_run: as in ``run_study``.

    Returns:
        A study of its own beside the other, whose results it leaves as they are: see ``storage.self_check_name``.
    """
    workload = Workload.of_config(config)
    assert config.name is not None
    name, url = self_check_name(config.name), storage_url(config.storage)
    first = config.seed_values[-1] + 1
    fresh = range(first, first + seeds)
    plan = [
        (rate, int(use["batch_size"]), seed)
        for seed in fresh
        for _, use in recommendations.iterrows()
        for rate in rates_to_check(use)
    ]
    wanted = configuration(config, workload) | {"self_check_of": config.name}
    with locked(url, name), _actors(config, url, name, len(plan)) as actors:
        study = _open_study(url, name, wanted)
        study.sampler = RandomSampler(seed=0)  # every parameter is fixed by the plan
        left, folder = _not_done(study, plan), runs_folder(config, out)
        Driver(study, config, workload, left, len(plan), folder, on_run or _silent, actors).run()
    return study


@contextlib.contextmanager
def _actors(config: StudyConfig, url: str, name: str, n_runs: int) -> Iterator[Actors | None]:
    """Ray's actors for a study that is yet to be made, so that what Ray refuses leaves none behind; else None."""
    path = sqlite_path(url)
    there = path is None or path.exists()
    if config.engine != "ray" or (there and name in {known.study_name for known in open_storage(url).get_all_studies()}):
        yield None
        return
    with contextlib.closing(Actors(config, n_runs)) as actors:
        yield actors


def _silent(*_: Any) -> None:
    """Nobody is told."""


def configuration(config: StudyConfig, workload: Workload) -> dict[str, Any]:
    """What makes two studies the same study, as plain JSON: all of it decides what is trained."""
    keys = ("learning_rate", "points", "batch_size", "seeds", "epochs", "sampler", "trials")
    settings = {key: getattr(config, key) for key in keys}
    if config.fuse != "auto":
        settings["fuse"] = config.fuse
    if config.seed_values[0]:
        settings["seed_everything"] = config.seed_values[0]
    return json.loads(json.dumps(workload.as_dict() | settings))  # type: ignore[no-any-return]


def _batch_sizes(config: StudyConfig) -> tuple[int, ...]:
    assert isinstance(config.batch_size, tuple)
    return config.batch_size


def _open_study(url: str, name: str, wanted: dict[str, Any]) -> optuna.Study:
    """Open or make a study of these settings and close what a killed process left behind; only its seeds may have grown."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(url)
    known = {summary.study_name for summary in storage.get_all_studies()}
    direction: Literal["maximize", "minimize"] = "maximize" if wanted.get("mode") == "max" else "minimize"
    if name not in known:
        study = optuna.create_study(study_name=name, storage=storage, pruner=NopPruner(), direction=direction)
        write_configuration(study, wanted)
        return study
    study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
    nothing = not verified_trials(study) and not study.user_attrs and study.direction.name == direction.upper()
    stored = study.user_attrs.get(CONFIGURATION, wanted if nothing else None)  # killed before its configuration was written
    if stored is None:
        raise ValueError(f"name must be new or a study of this project, {name!r} was made by something else")
    grown = stored | {"seeds": wanted["seeds"]} if wanted["seeds"] > stored["seeds"] else stored
    if grown != wanted:
        differences = _differences(stored, wanted)
        raise ValueError(f"study {name!r} exists with other settings ({differences}): give another name")
    write_configuration(study, wanted)
    close_orphans(study, "the process ended before the run did")
    return study


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> str:
    """What was and what is now, key by key; "" when equal."""
    found = []
    for key in sorted({*stored, *wanted}):
        was, now = stored.get(key), wanted.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found.append(_differences(was, now, f"{prefix}{key}."))
        elif was != now:
            found.append(f"{prefix}{key} was {was!r}, now {now!r}")
    return "; ".join(filter(None, found))


def _sampler(name: str, n_trials: int) -> BaseSampler:
    """The sampler, seeded by how far the study is: a fixed seed would repeat its draws after a restart."""
    if name == "tpe":
        return TPESampler(seed=n_trials)
    if name == "qmc":  # one fixed sequence; Optuna keeps the place in it in the storage
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return QMCSampler(seed=0, independent_sampler=RandomSampler(seed=n_trials), warn_independent_sampling=False)
    return RandomSampler(seed=n_trials)


def runs_folder(config: StudyConfig, out: str | Path | None) -> Path:
    """Where each run has a folder for what the user's callbacks and loggers write."""
    return Path(out or f"outputs/{config.name}") / "runs"


def _missing(study: optuna.Study, config: StudyConfig) -> list[dict[str, Any]]:
    """The plan less what is complete, as parameters to fix; the free samplers fix the seed alone."""
    if config.sampler != "grid":
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [{"seed": config.seed_values[index % config.seeds]} for index in range(len(complete), config.n_runs)]
    return _not_done(
        study,
        [(rate, size, seed) for seed in config.seed_values for size in _batch_sizes(config) for rate in config.learning_rates],
    )


def _not_done(study: optuna.Study, plan: list[Cell]) -> list[dict[str, Any]]:
    names = ("learning_rate", "batch_size", "seed")
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    done = {tuple(trial.params[name] for name in names) for trial in complete}
    return [dict(zip(names, cell, strict=True)) for cell in plan if cell not in done]
