"""Optuna's own samplers, which choose learning rate and batch size of each run by those before, or at random."""

import warnings

from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler

from studies.config import StudyConfig
from studies.plan import Asked, Planned


def plan(config: StudyConfig) -> list[Planned]:
    """Nothing is known beforehand."""
    return []


def more(study: Study, config: StudyConfig, *round_: object) -> list[Asked]:
    """The sampler is asked."""
    return []


def make(name: str, n_trials: int) -> BaseSampler:
    """Seeded by how far the study is: a fixed seed would repeat its draws after a restart."""
    if name == "tpe":
        return TPESampler(seed=n_trials)
    if name == "qmc":  # one fixed sequence; Optuna keeps the place in it in the storage
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return QMCSampler(seed=0, independent_sampler=RandomSampler(seed=n_trials), warn_independent_sampling=False)
    return RandomSampler(seed=n_trials)
