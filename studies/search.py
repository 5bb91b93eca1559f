"""Ask, train, tell until the plan is done; start again and only what is missing is trained."""

from __future__ import annotations

import json
import logging
import math
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from studies.config import StudyConfig
from studies.storage import check_storage, locked, open_storage, require_writable
from studies.training import Run, build_trainer, train
from studies.workload import Workload

logger = logging.getLogger(__name__)

CONFIGURATION = "configuration"
EQUAL_FAILURES = 3  # in a row: the module is broken, more runs would only repeat it

Cell = tuple[float, int, int]  # learning rate, batch size, seed
OnRun = Callable[[optuna.Study, int, int], None]


def run_study(config: StudyConfig, *, out: str | Path | None = None, on_run: OnRun | None = None) -> optuna.Study:
    """Train what is missing of a study and return it, finished.

    Args:
        config: what to study.
        out: a folder that will be written afterwards; checked at the door so that no training is lost to it.
        on_run: called as ``on_run(study, finished, planned)`` at the start and after every run.

    Raises:
        ValueError: bad input, before anything is made or trained.
        StudyInUse: another process works on this study.
        RuntimeError: the module failed three times in a row in the same way.
        KeyboardInterrupt: Ctrl-C; what finished is kept, the same call goes on.
    """
    workload = Workload.of(config.model, config.data, config.trainer)
    _check_at_the_door(config, workload)
    url = check_storage(config.storage)
    if out is not None:
        require_writable(Path(out), "out")
    assert config.name is not None
    with locked(url, config.name):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = _open_study(url, config, configuration(config, workload))
        _close_orphans(study)
        _work_off(study, config, workload, on_run or (lambda *_: None))
    return study


def configuration(config: StudyConfig, workload: Workload) -> dict[str, Any]:
    """What makes two studies the same study, as plain JSON: all of it decides what is trained."""
    keys = ("learning_rate", "points", "batch_size", "seeds", "epochs", "sampler", "trials")
    return json.loads(json.dumps(workload.as_dict() | {key: getattr(config, key) for key in keys}))  # type: ignore[no-any-return]


def _check_at_the_door(config: StudyConfig, workload: Workload) -> None:
    """Build data, model and trainer once, so that what they refuse is said before anything is made."""
    sizes = _batch_sizes(config)
    data: Any = workload.build_data(batch_size=min(sizes), seed=0)
    workload.build_model(learning_rate=config.learning_rate[0], seed=0)
    build_trainer(workload, epochs=config.epochs or 1)
    if max(sizes) > data.n_train:
        raise ValueError(f"batch_size must be at most the training set of {data.n_train} examples, got {max(sizes)}")


def _batch_sizes(config: StudyConfig) -> tuple[int, ...]:
    assert isinstance(config.batch_size, tuple)
    return config.batch_size


def _open_study(url: str, config: StudyConfig, wanted: dict[str, Any]) -> optuna.Study:
    storage = open_storage(url)
    known = {summary.study_name for summary in storage.get_all_studies()}
    if config.name in known:
        study = optuna.load_study(study_name=config.name, storage=storage, pruner=NopPruner())
        stored = study.user_attrs.get(CONFIGURATION)
        if stored is None:
            raise ValueError(f"name must be new or a study of this project, {config.name!r} was made by something else")
        if differences := _differences(stored, wanted):
            raise ValueError(f"study {config.name!r} exists with other settings ({differences}): give another name")
    else:
        study = optuna.create_study(study_name=config.name, storage=storage, pruner=NopPruner(), direction="minimize")
        study.set_user_attr(CONFIGURATION, wanted)
    study.sampler = _sampler(config.sampler, len(study.get_trials(deepcopy=False)))
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


def _work_off(study: optuna.Study, config: StudyConfig, workload: Workload, on_run: OnRun) -> None:
    low, high = config.learning_rate
    space = {
        "learning_rate": FloatDistribution(low, high, log=True),
        "batch_size": CategoricalDistribution(_batch_sizes(config)),
        "seed": IntDistribution(0, config.seeds - 1),
    }
    missing = _missing(study, config)
    planned = config.n_runs
    on_run(study, planned - len(missing), planned)
    failures: list[str] = []
    for left, point in reversed(list(enumerate(reversed(missing)))):
        study.enqueue_trial(point)
        trial = study.ask(space)
        try:
            rate, batch_size, seed = (trial.params[name] for name in space)
            (run,) = train(workload, [(rate, seed)], batch_size=batch_size, epochs=config.epochs or 1)
        except KeyboardInterrupt:
            _fail(study, trial, "interrupted")
            raise
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")
            _fail(study, trial, failures[-1], traceback.format_exc())
            logger.warning("trial %d failed: %s", trial.number, failures[-1])
            if Counter(failures[-EQUAL_FAILURES:])[failures[-1]] == EQUAL_FAILURES:
                raise RuntimeError(
                    f"{EQUAL_FAILURES} runs in a row failed alike, so the study stopped: {failures[-1]}"
                ) from error
        else:
            failures.clear()
            _tell(study, trial, run)
        on_run(study, planned - left, planned)


def _missing(study: optuna.Study, config: StudyConfig) -> list[dict[str, Any]]:
    """The plan less what is complete, as parameters to fix; the free samplers fix the seed alone."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if config.sampler != "grid":
        return [{"seed": index % config.seeds} for index in range(len(complete), config.n_runs)]
    done = {tuple(trial.params[name] for name in ("learning_rate", "batch_size", "seed")) for trial in complete}
    plan: list[Cell] = [
        (rate, size, seed) for seed in range(config.seeds) for size in _batch_sizes(config) for rate in config.learning_rates
    ]
    return [dict(zip(("learning_rate", "batch_size", "seed"), cell, strict=True)) for cell in plan if cell not in done]


def _tell(study: optuna.Study, trial: optuna.Trial, run: Run) -> None:
    """Store the facts of a run, then finish its trial: a finished trial takes no more attributes."""
    facts = {
        "epochs": run.epochs,
        "steps": run.steps,
        "examples": run.examples,
        "seconds": round(run.seconds, 4),
        "nonfinite_at": run.nonfinite_at,
        "first_height": _plain(run.first_height),
        "final_height": _plain(run.final_height),
        "metrics": {name: _plain(value) for name, value in run.metrics.items()},
        "curves": {name: [list(steps), [_plain(v) for v in values]] for name, (steps, values) in run.curves.items()},
    }
    for key, value in facts.items():
        trial.set_user_attr(key, value)
    study.tell(trial, run.value)


def _plain(value: float) -> float | None:
    """A number JSON can hold: None for what is not finite (a bare NaN breaks browsers), seven digits, as float32 has."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _fail(study: optuna.Study, trial: optuna.Trial, error: str, trace: str = "") -> None:
    trial.set_user_attr("error", error)
    if trace:
        trial.set_user_attr("traceback", trace)
    study.tell(trial, state=TrialState.FAIL)
