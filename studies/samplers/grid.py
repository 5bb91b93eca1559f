"""Every learning rate at every batch size on every seed."""

from optuna import Study
from optuna.samplers import BaseSampler, RandomSampler

from studies.config import StudyConfig
from studies.plan import Asked, Planned


def plan(config: StudyConfig) -> list[Planned]:
    """Seeds outermost, so that a study that is interrupted has a whole grid of its first seeds."""
    rates, sizes, seeds = config.learning_rates, config.batch_sizes, config.seed_values
    return [Planned(rate, size, seed) for seed in seeds for size in sizes for rate in rates]


def more(study: Study, config: StudyConfig, *round_: object) -> list[Asked]:
    """Nothing but what was planned."""
    return []


def make(name: str, n_trials: int) -> BaseSampler:
    """One that has nothing to choose: all is planned."""
    return RandomSampler(seed=n_trials)
