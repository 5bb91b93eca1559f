"""Ask, train, tell until the plan is done; start again and only what is missing is trained."""

from __future__ import annotations

import itertools
import json
import logging
import math
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from reports.self_check import rates_to_check
from studies.config import StudyConfig
from studies.errors import FailedAlike
from studies.fusing import Fusing
from studies.next_run import OPTIONS, given_options
from studies.preflight import preflight
from studies.storage import check_storage, locked, open_storage, require_writable, self_check_name
from studies.tables import facts_of
from studies.training import Run, fixed_of, train
from studies.workload import Workload

logger = logging.getLogger(__name__)

CONFIGURATION = "configuration"
HOW_TRAINED = "how_trained"
EQUAL_FAILURES = 3  # in a row: the module is broken, more runs would only repeat it

Cell = tuple[float, int, int]  # learning rate, batch size, seed
OnRun = Callable[[optuna.Study, int, int], None]


def run_study(config: StudyConfig, *, out: str | Path | None = None, on_run: OnRun | None = None) -> optuna.Study:
    """Train what is missing of a study and return it, finished.

    Args:
        config: what to study.
        out: a folder that will be written afterwards, ``outputs/NAME`` unless given; checked at the door so that no training
            is lost to it. Loggers and checkpoints of the user's write into its ``runs``.
        on_run: called as ``on_run(study, finished, planned)`` at the start and after every run.

    Raises:
        ValueError: bad input, before anything is made or trained.
        StudyInUse: another process works on this study.
        FailedAlike: the module failed three times in a row in the same way, or in every run.
        KeyboardInterrupt: Ctrl-C; what finished is kept, the same call goes on.
    """
    assert config.name is not None
    workload = Workload.of_config(config)
    url = check_storage(config.storage)
    if out is not None:
        require_writable(Path(out), "out")
    preflight(workload, learning_rates=config.learning_rate, batch_sizes=_batch_sizes(config), seed=config.seed_values[0])
    with locked(url, config.name):
        study = _open_study(url, config.name, configuration(config, workload))
        study.sampler = _sampler(config.sampler, len(study.get_trials(deepcopy=False)))
        study.set_user_attr(OPTIONS, given_options(config))
        if not workload.is_ours:  # the default of a model of ours is nobody's choice
            study.set_user_attr("own_learning_rate", fixed_of(workload, max(_batch_sizes(config))).own)
        plan = _missing(study, config)
        work_off(study, plan, config.n_runs, config=config, workload=workload, folder=runs_folder(config, out), on_run=on_run)
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
        recommendations: as ``reports.recommendation.recommend`` returns them.
        seeds: fresh seeds for each learning rate.
        out, on_run: as in ``run_study``.

    Returns:
        A study of its own beside the other, whose results it leaves as they are: see ``storage.self_check_name``.
    """
    workload = Workload.of_config(config)
    assert config.name is not None
    name, url = self_check_name(config.name), check_storage(config.storage)
    first = config.seed_values[-1] + 1
    fresh = range(first, first + seeds)
    plan = [
        (rate, int(use["batch_size"]), seed)
        for seed in fresh
        for _, use in recommendations.iterrows()
        for rate in rates_to_check(use)
    ]
    wanted = configuration(config, workload) | {"self_check_of": config.name}
    with locked(url, name):
        study = _open_study(url, name, wanted)
        study.sampler = RandomSampler(seed=0)  # every parameter is fixed by the plan
        left, folder = _not_done(study, plan), runs_folder(config, out)
        work_off(study, left, len(plan), config=config, workload=workload, folder=folder, on_run=on_run)
    return study


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
    if name not in known:
        direction: Literal["maximize", "minimize"] = "maximize" if wanted.get("mode") == "max" else "minimize"
        study = optuna.create_study(study_name=name, storage=storage, pruner=NopPruner(), direction=direction)
        study.set_user_attr(CONFIGURATION, wanted)
        return study
    study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
    stored = study.user_attrs.get(CONFIGURATION)
    if stored is None:
        raise ValueError(f"name must be new or a study of this project, {name!r} was made by something else")
    grown = stored | {"seeds": wanted["seeds"]} if wanted["seeds"] > stored["seeds"] else stored
    if grown != wanted:
        differences = _differences(stored, wanted)
        raise ValueError(f"study {name!r} exists with other settings ({differences}): give another name")
    if grown != stored:
        study.set_user_attr(CONFIGURATION, wanted)
    _close_orphans(study)
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


def _close_orphans(study: optuna.Study) -> None:
    """Fail what a killed process left behind: with the lock held, no trial that is RUNNING or WAITING can be alive."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study._storage.set_trial_user_attr(trial._trial_id, "error", "the process ended before the run did")
        study.tell(trial.number, state=TrialState.FAIL)


def runs_folder(config: StudyConfig, out: str | Path | None) -> Path:
    """Where each run has a folder for what the user's callbacks and loggers write."""
    return Path(out or f"outputs/{config.name}") / "runs"


def work_off(
    study: optuna.Study,
    missing: list[dict[str, Any]],
    planned: int,
    *,
    config: StudyConfig,
    workload: Workload,
    folder: Path,
    on_run: OnRun | None,
) -> None:
    """Ask, train and tell the missing points of a plan of ``planned`` runs."""
    low, high = config.learning_rate
    space = {
        "learning_rate": FloatDistribution(low, high, log=True),
        "batch_size": CategoricalDistribution(_batch_sizes(config)),
        "seed": IntDistribution(0, max([point["seed"] for point in missing], default=0)),
    }
    on_run = on_run or (lambda *_: None)
    on_run(study, planned - len(missing), planned)
    epochs = config.epochs or 1
    fusing = Fusing(workload, epochs=epochs, decided=study.user_attrs.get(HOW_TRAINED))
    may_fuse = config.fuse == "auto" and all(
        "learning_rate" in point for point in missing
    )  # else the sampler has yet to choose
    ready: dict[Cell, tuple[int, Run]] = {}  # trained in one fit with an earlier trial, whose number stands beside
    failures: list[str] = []
    too_large: float = math.inf  # the smallest batch size that did not fit into memory
    for left, point in reversed(list(enumerate(reversed(missing)))):
        if point.get("batch_size", 0) >= too_large:
            continue
        study.enqueue_trial(point)
        trial = study.ask(space)
        try:
            rate, batch_size, seed = (trial.params[name] for name in space)
            cell = (rate, batch_size, seed)
            if may_fuse and cell not in ready and not fusing.is_alone(batch_size):
                members = _same_size(missing[len(missing) - left - 1 :], batch_size)
                n_runs = sum(other["batch_size"] == batch_size for other in missing)
                if fusing.decide(members, batch_size=batch_size, n_runs=n_runs):
                    study.set_user_attr(HOW_TRAINED, fusing.decided)
                runs = fusing.ahead(members, batch_size=batch_size)
                ready = {(run.learning_rate, batch_size, run.seed): (trial.number, run) for run in runs}
            if cell in ready:
                first, run = ready.pop(cell)
                trial.set_user_attr("member_of", first)
            else:
                (run,) = train(workload, [(rate, seed)], batch_size=batch_size, epochs=epochs, folder=folder)
        except KeyboardInterrupt:
            _fail(study, trial, "interrupted")
            raise
        except Exception as error:
            if _out_of_memory(error):  # not a fault of the module: smaller batches may still fit
                too_large = min(batch_size, too_large)
                _fail(study, trial, f"out of memory at batch size {batch_size}", traceback.format_exc())
                logger.warning(
                    "batch size %d does not fit into memory: its runs, and those of larger ones, are left out", batch_size
                )
                continue
            failures.append(f"{type(error).__name__}: {error}")
            _fail(study, trial, failures[-1], traceback.format_exc())
            logger.warning("trial %d failed: %s", trial.number, failures[-1])
            if Counter(failures[-EQUAL_FAILURES:])[failures[-1]] == EQUAL_FAILURES:
                raise FailedAlike(
                    f"{EQUAL_FAILURES} runs in a row failed alike, so the study stopped: {failures[-1]}"
                ) from error
        else:
            failures.clear()
            _tell(study, trial, run)
        on_run(study, planned - left, planned)
    if fusing.decided != study.user_attrs.get(HOW_TRAINED, {}):  # a fused fit failed
        study.set_user_attr(HOW_TRAINED, fusing.decided)
    if failures and not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise FailedAlike(f"no run of the study finished, the last of {len(failures)}: {failures[-1]}")


def _same_size(points: Sequence[Mapping[str, Any]], batch_size: int) -> list[tuple[float, int]]:
    """Members of the points up to the first of another batch size."""
    same = itertools.takewhile(lambda point: point["batch_size"] == batch_size, points)
    return [(point["learning_rate"], point["seed"]) for point in same]


def _out_of_memory(error: BaseException) -> bool:
    """PyTorch says so in one class on a GPU and in words on a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


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


def _tell(study: optuna.Study, trial: optuna.Trial, run: Run) -> None:
    """Store the facts of a run, then finish its trial: a finished trial takes no more attributes."""
    for key, value in facts_of(run).items():
        trial.set_user_attr(key, value)
    study.tell(trial, run.value)


def _fail(study: optuna.Study, trial: optuna.Trial, error: str, trace: str = "") -> None:
    trial.set_user_attr("error", error)
    if trace:
        trial.set_user_attr("traceback", trace)
    study.tell(trial, state=TrialState.FAIL)
