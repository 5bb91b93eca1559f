"""A study of Optuna's whose trials reported intermediate values."""

import math

from optuna.study import StudyDirection
from optuna.trial import TrialState

from studies.admin.adopted.log import Log, curve, number_of
from studies.errors import BadInput
from studies.samplers.reports_of_trials import ENDED
from studies.storage.opening import load_study

REPORTED = "reported loss"


def read_optuna_study(storage: str, name: str) -> list[Log]:
    """A log for each trial that has ended and reported something.

    Raises BadInput where more of what it reported is better.
    """
    study = load_study(storage, name)
    if study.directions != [StudyDirection.MINIMIZE]:
        told = ", ".join(direction.name.lower() for direction in study.directions)
        raise BadInput(f"study {name!r} must minimise one loss, its directions are {told}")
    found = []
    for trial in study.get_trials(deepcopy=False, states=ENDED):
        reports = dict(sorted(trial.intermediate_values.items()))
        if reports and trial.state is TrialState.COMPLETE and trial.values and not math.isfinite(trial.values[0]):
            reports[max(reports) + 1] = math.inf
        params = {key: number_of(str(value)) for key, value in trial.params.items()}
        seconds = trial.duration.total_seconds() if trial.duration else math.nan
        metrics = {REPORTED: curve(list(reports), list(reports.values()))} if reports else {}
        found.append(Log(f"trial {trial.number}", params, metrics, seconds=seconds))
    return found
