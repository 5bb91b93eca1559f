"""Open a study, plan what it is missing and have it trained; start again and only what is missing is trained."""

import contextlib
import logging
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from reports.judging.self_check import rates_to_check
from reports.judging.verdicts import Thresholds
from studies import trials
from studies.config import RANGE, StudyConfig
from studies.driver import Driver, OnRun
from studies.errors import BadInput
from studies.identity import configuration, differences, is_same
from studies.next_run import given_options
from studies.plan import Planned, missing
from studies.samplers import sampler_of
from studies.storage.checksums import verified_trials
from studies.storage.database_url import sqlite_path, storage_url
from studies.storage.door import entered
from studies.storage.lock import locked
from studies.storage.opening import open_storage
from studies.storage.stored import (
    ADOPTED,
    BRACKET,
    CONFIGURATION,
    OPTIMIZERS,
    OPTIONS,
    OWN_LEARNING_RATE,
    REMARKS,
    SELF_CHECK_OF,
    budget_of,
    facts_of,
    self_check_name,
)
from studies.tables import short_runs
from studies.training.bracket import find_bracket
from studies.training.fixed import look_at, steps_per_epoch
from studies.training.optimizers import optimizers_of
from studies.training.preflight import preflight
from studies.training.ray_actors import Actors
from studies.training.said_once import warnings_once
from studies.training.schedule import dry_run
from studies.training.workload import Workload

logger = logging.getLogger(__name__)

DONE = (TrialState.COMPLETE,)


def run_study(
    config: StudyConfig, *, out: str | Path | None = None, on_run: OnRun | None = None, thresholds: Thresholds | None = None
) -> optuna.Study:
    """Train what is missing of a study and return it, finished.

    Args:
        config: what to study.
        out: a folder that will be written afterwards, ``outputs/NAME`` unless given; checked at the door so that no training
            is lost to it. Loggers and checkpoints of the user's write into its ``runs``.
        on_run: called as ``on_run(study, finished, planned)`` at the start and after every run, with numbers of runs; the
            second, a ``RunsInAll``, knows more. Of a search it grows, as nobody knows beforehand how many it takes.
        thresholds: of the verdicts whose edges a search looks for.

    Raises:
        ValueError: bad input, before anything is trained.
        StudyInUse: another process works on this study.
        FailedAlike: the module failed three times in a row in the same way, or in every run.
        KeyboardInterrupt: Ctrl-C; what finished is kept, the same call goes on.
    """
    with entered(config, out):
        return train_study(config, out=out, on_run=on_run, thresholds=thresholds)


@warnings_once()
def train_study(
    config: StudyConfig,
    *,
    out: str | Path | None = None,
    on_run: OnRun | None = None,
    thresholds: Thresholds | None = None,
    workload: Workload | None = None,
) -> optuna.Study:
    """``run_study`` for whoever has entered the study, so that its storage is checked once; workload: that of ``config``."""
    assert config.name is not None
    workload, url = workload or Workload.of_config(config), storage_url(config.storage)
    seed, rates = config.seed_values[0], config.learning_rate or RANGE
    remarks = preflight(workload, learning_rates=rates, batch_sizes=config.batch_sizes, seed=seed)
    for remark in remarks:
        logger.warning("%s", remark)
    with _actors(config, url, config.name, config.n_runs) as actors:
        study = _open_study(url, config.name, configuration(config, workload.as_dict()), workload)
        sampler = sampler_of(str(config.sampler))
        study.sampler = sampler.make(config.sampler, len(study.get_trials(deepcopy=False)))
        trials.set_attribute(study, OPTIONS, given_options(config))
        trials.set_attribute(study, REMARKS, remarks)
        if not workload.is_ours:  # the default of a model of ours is nobody's choice
            trials.set_attribute(study, OWN_LEARNING_RATE, look_at(workload, max(config.batch_sizes)).own)
        if OPTIMIZERS not in study.user_attrs:
            found = optimizers_of(workload, math.sqrt(rates[0] * rates[1]), config.batch_sizes)
            trials.set_attribute(study, OPTIMIZERS, found)
        if config.learning_rate is None and BRACKET not in study.user_attrs:
            trials.set_attribute(study, BRACKET, list(find_bracket(workload, max(config.batch_sizes), seed)))
        complete, plan = _complete(study), sampler.plan(config)
        chosen = [] if plan or config.sampler == "edges" else range(len(complete), config.n_runs)
        work = missing(plan, complete), [config.seed_values[index % config.seeds] for index in chosen]
        told = on_run or (lambda *_: None)
        more = partial(sampler.more, study, config, thresholds or Thresholds(), partial(steps_per_epoch, workload))
        Driver(study, config, workload, *work, config.n_runs, runs_folder(config, out), told, actors, more).run()
    return study


@warnings_once()
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
        A study of its own beside the other, whose results it leaves as they are: see ``self_check_name``.
    """
    workload = Workload.of_config(config)
    assert config.name is not None
    name, url = self_check_name(config.name), storage_url(config.storage)
    first = config.seed_values[-1] + 1
    fresh = range(first, first + seeds)
    plan = [
        Planned(rate, int(use["batch_size"]), seed)
        for seed in fresh
        for _, use in recommendations.iterrows()
        for rate in rates_to_check(use)
    ]
    wanted = configuration(config, workload.as_dict()) | {SELF_CHECK_OF: config.name}
    with locked(url, name), _actors(config, url, name, len(plan)) as actors:
        study = _open_study(url, name, wanted, workload)
        study.sampler = RandomSampler(seed=0)  # every parameter is fixed by the plan
        left, folder = missing(plan, _complete(study)), runs_folder(config, out)
        Driver(study, config, workload, left, [], len(plan), folder, on_run or (lambda *_: None), actors).run()
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


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    complete = study.get_trials(deepcopy=False, states=DONE)
    short = short_runs(study, complete)
    return [trial for trial in complete if trial.number not in short]


def _open_study(url: str, name: str, wanted: dict[str, Any], workload: Workload) -> optuna.Study:
    """Open or make a study of these settings and close what a killed process left behind; only what may grow may differ."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(url)
    known = {summary.study_name for summary in storage.get_all_studies()}
    direction = StudyDirection.MAXIMIZE if wanted.get("mode") == "max" else StudyDirection.MINIMIZE
    if name not in known:
        study = trials.create_study(storage, name, [direction])
        trials.write_configuration(study, wanted)
        return study
    study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
    nothing = not verified_trials(study) and not study.user_attrs and study.direction == direction
    stored = study.user_attrs.get(CONFIGURATION, wanted if nothing else None)  # killed before its configuration was written
    if stored is None:
        raise BadInput(f"name must be new or a study of this project, {name!r} was made by something else")
    if ADOPTED in stored:
        raise BadInput(f"name must be new or a study that was launched, the runs of {name!r} were adopted: give another name")
    if not is_same(stored, wanted):
        told = "; ".join(" ".join(difference) for difference in differences(stored, wanted))
        raise BadInput(f"study {name!r} exists with other settings ({told}): give another name")
    unit = budget_of(wanted)
    if stored[unit] < wanted[unit]:
        _check_longer(study, workload, unit, stored[unit], wanted[unit])
        trials.give_longer_runs(study, stored[unit])
    trials.write_configuration(study, wanted)
    trials.close_orphans(study, "the process ended before the run did")
    return study


def _check_longer(study: optuna.Study, workload: Workload, unit: str, had: int, wanted: int) -> None:
    """Raises BadInput where a run of more epochs, or steps, does not begin as the shorter ones did."""
    seen = [facts_of(trial) for trial in study.get_trials(deepcopy=False, states=DONE)]
    size = max(workload.batch_sizes or (1,))
    who, probe = dry_run(workload, RANGE[0], size).set_by, look_at(workload, size).probe
    if who or probe.at_end or probe.counters or any("loss_as_at_start" in facts for facts in seen):
        raise BadInput(
            f"{unit} of study {study.study_name!r} must stay {had}, as {who or 'its loss'} may follow the length of a run,"
            f" got {wanted}: give another name"
        )


def runs_folder(config: StudyConfig, out: str | Path | None) -> Path:
    """Where each run has a folder for what the user's callbacks and loggers write."""
    return Path(out or f"outputs/{config.name}") / "runs"
