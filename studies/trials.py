"""The only writer of studies: before each write stands what it is (``sys.audit``), and no interrupt comes in its midst."""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import NopPruner
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import StudyModel
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import update

from reports.judging.decided import BY_SEARCH
from studies.config import LIMITS, StudyConfig
from studies.plan import Planned
from studies.storage.beside import system_attributes
from studies.storage.checksums import study_checksums
from studies.storage.interrupts import uninterrupted
from studies.storage.stored import BUDGETS, CHECKSUMS, CONFIGURATION, ERROR, TRACEBACK, attributes_of, attributes_of_failure

if TYPE_CHECKING:  # PyTorch, which writing does without
    from studies.training.runs import Run

Space = dict[str, BaseDistribution]


def space_of(config: StudyConfig, seeds: Iterable[int]) -> Space:
    """The distributions of the parameters of a study, seeds among them."""
    low, high = config.learning_rate or LIMITS
    if config.sampler == "edges":  # it may have been given another range before
        low, high = min(low, LIMITS[0]), max(high, LIMITS[1])
    return {
        "learning_rate": FloatDistribution(low, high, log=True),
        "batch_size": CategoricalDistribution(config.batch_sizes),
        "seed": IntDistribution(0, max(seeds, default=0)),
    }


@uninterrupted()
def start(study: optuna.Study, space: Space, fixed: Mapping[str, Any]) -> optuna.Trial:
    """A trial that shows as running: Optuna is asked for it, and its sampler chooses what is not fixed."""
    sys.audit("lr_study.write", "waiting trial")
    study.enqueue_trial(dict(fixed))
    sys.audit("lr_study.write", "running trial")
    return study.ask(space)


@uninterrupted()
def tell(study: optuna.Study, trial: optuna.Trial, run: "Run") -> None:
    """End a trial with what its run was."""
    sys.audit("lr_study.write", "facts")
    for name, value in attributes_of(run).items():
        trial.set_user_attr(name, value)  # first: a finished trial takes no more attributes
    sys.audit("lr_study.write", "value")
    if run.ended_by == BY_SEARCH:
        study.tell(trial, state=TrialState.PRUNED)  # what it came to is no value to compare with others
    else:
        study.tell(trial, run.value)


@uninterrupted()
def add_finished(
    study: optuna.Study,
    space: Space,
    planned: Planned,
    run: "Run",
    *,
    time: tuple[datetime, datetime] | None = None,
    **facts: Any,
) -> None:
    """Add the trial of a run that has finished, with more facts, such as ``member_of``, the first trial of its fused fit.

    time: when it began and ended, of a member of a fused fit that of the fit; now where it is not given.
    """
    attributes = attributes_of(run, **facts)
    ended: dict[str, Any] = {"state": TrialState.PRUNED} if run.ended_by == BY_SEARCH else {"value": run.value}
    trial = create_trial(params=planned._asdict(), distributions=space, user_attrs=attributes, **ended)
    if time is not None:
        trial.datetime_start, trial.datetime_complete = time
    sys.audit("lr_study.write", "finished trial")
    study.add_trial(trial)


@uninterrupted()
def fail(study: optuna.Study, trial: optuna.Trial | FrozenTrial, error: str, traceback: str = "") -> None:
    """End a trial with what went wrong."""
    sys.audit("lr_study.write", "failed trial")
    said = {ERROR: error} | ({TRACEBACK: traceback} if traceback else {})
    for name, value in attributes_of_failure(trial.params, trial.user_attrs | said).items():
        study._storage.set_trial_user_attr(trial._trial_id, name, value)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


@uninterrupted()
def close_orphans(study: optuna.Study, error: str) -> None:
    """Fail whatever trial is waiting or running: nothing trains it, as the study is locked and its driver not at work."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)):
        fail(study, trial, error)


@uninterrupted()
def set_attribute(study: optuna.Study, name: str, value: Any) -> None:
    """Set an attribute of a study to plain JSON, where that is not what it is."""
    if study.user_attrs.get(name, ...) != value:
        sys.audit("lr_study.write", name)
        study.set_user_attr(name, value)


@uninterrupted()
def set_system_attribute(study: optuna.Study, name: str, value: Any) -> None:
    """The same of an attribute that Optuna Dashboard does not show."""
    if system_attributes(study).get(name, ...) != value:
        sys.audit("lr_study.write", name)
        study._storage.set_study_system_attr(study._study_id, name, value)


def create_study(storage: BaseStorage, name: str, directions: Sequence[StudyDirection]) -> optuna.Study:
    """A new study, which is nothing yet."""
    sys.audit("lr_study.write", "study")
    return optuna.create_study(study_name=name, storage=storage, pruner=NopPruner(), directions=directions)


def write_configuration(study: optuna.Study, wanted: Mapping[str, Any]) -> None:
    """Store what a study is; its checksum first, beside that of what it was."""
    set_system_attribute(study, CHECKSUMS, study_checksums(study, wanted))
    set_attribute(study, CONFIGURATION, wanted)


def give_longer_runs(study: optuna.Study, length: float) -> None:
    """Say that the runs of a study so far had as many epochs, or steps where it counts those, before it is given more."""
    budgets = [[before, had] for before, had in study.user_attrs.get(BUDGETS, []) if had != length]
    set_attribute(study, BUDGETS, [*budgets, [len(study.get_trials(deepcopy=False)), length]])


def copy_trial(study: optuna.Study, trial: FrozenTrial) -> int:
    """Add a trial as it was in another storage; its id in this one."""
    sys.audit("lr_study.write", "trial of an imported study")
    return study._storage.create_new_trial(study._study_id, template_trial=trial)


def rename(storage: RDBStorage, names: Mapping[str, str]) -> None:
    """Give studies new names, by those they have, all in one step; Optuna cannot."""
    sys.audit("lr_study.write", "name of an imported study")
    with storage.engine.begin() as connection:
        for old, new in names.items():
            connection.execute(update(StudyModel).where(StudyModel.study_name == old).values(study_name=new))


def delete(storage: BaseStorage, names: Collection[str]) -> None:
    """Delete the studies of these names that there are, each in one step."""
    for study in storage.get_all_studies():
        if study.study_name in names:
            sys.audit("lr_study.write", "delete study")
            storage.delete_study(study._study_id)
