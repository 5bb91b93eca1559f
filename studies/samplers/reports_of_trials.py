"""``runs`` and ``curves`` of what the trials of anybody's Optuna study reported, as ``reports.judge`` takes them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from numbers import Integral
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from reports.errors import BadInput
from reports.judging.decided import BY_SEARCH, Query, Yardstick
from reports.judging.final_height import final_height
from reports.judging.followed import HIGHEST
from reports.judging.verdicts import find_yardsticks

ASKED = "learning_rates:asked"  # system attribute of a trial: ``_Asked``, which is what the sampler wants to be trained
BY_OBJECTIVE = "the objective"  # who ended a run that is complete and shorter than others, in the column ``ended_early``
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
ENDED = (*FINISHED, TrialState.FAIL)
COLUMNS = "trial learning_rate batch_size seed state epochs steps examples seconds nonfinite_at first_height final_height"
COLUMNS += f" validation_examples {HIGHEST} ended_early loss_as_at_start member_of error traceback"
WHOLE_NUMBERS = ("nonfinite_at", "steps", "examples", "validation_examples")
Floats = npt.NDArray[np.float64]
Ends = tuple[float, float]
Tables = tuple[pd.DataFrame, pd.DataFrame]


class Asked(NamedTuple):
    """What the sampler wants of a trial: as ``Query``, in plain JSON, with None for training to the end."""

    learning_rate: float
    seed: int
    epochs: float | None
    until_decided: bool

    @classmethod
    def of(cls, query: Query) -> "Asked":
        """What the core asks for."""
        epochs = query.epochs if math.isfinite(query.epochs) else None
        return cls(query.learning_rate, query.seed, epochs, query.yardstick is not None)


@dataclass(frozen=True)
class Objective:
    """How an objective names what is looked at; epochs: the step at which a full run reports last."""

    epochs: int
    learning_rate: str
    seed: str

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs)
        if self.learning_rate == self.seed:
            raise BadInput(f"learning_rate and seed must be the names of two parameters, got {self.seed!r} for both")

    def ends(self, trial: FrozenTrial) -> Ends | None:
        """The learning rates between which a trial was to choose, None where it was not or not on a log scale."""
        return ends_of(trial.distributions.get(self.learning_rate))

    def point(self, trial: FrozenTrial) -> tuple[float, int] | None:
        """Learning rate and seed of a trial, those that are asked for where it has none yet; None where they are none."""
        asked = asked_of(trial) or Asked(math.nan, 0, None, True)
        rate, seed = trial.params.get(self.learning_rate, asked.learning_rate), trial.params.get(self.seed, asked.seed)
        return (rate, int(seed)) if isinstance(rate, float) and 0 < rate < math.inf and is_whole(seed) else None

    def tables(self, study: optuna.Study, ends: Ends) -> Tables:
        """``tables_of_reports`` of the learning rates in a range: it may have been another one before."""
        runs, curves = tables_of_reports(study, epochs=self.epochs, learning_rate=self.learning_rate, seed=self.seed)
        runs = runs[runs["learning_rate"].between(*ends)]
        return runs, curves[curves["trial"].isin(runs["trial"])]


class Last:
    """What was computed last, for whoever asks again before another trial has finished; nothing that decides anything."""

    def __init__(self) -> None:
        self._found: tuple[Any, Any] | None = None

    def __call__(self, study: optuna.Study, key: Any, compute: Callable[[], Any]) -> Any:
        """What ``compute`` returns, called only where a trial has ended since, or ``key`` is another."""
        finished = [(trial.number, trial.datetime_complete) for trial in study.get_trials(deepcopy=False, states=ENDED)]
        found, whole_key = self._found, (study.study_name, finished, key)
        if found is None or found[0] != whole_key:
            self._found = found = whole_key, compute()
        return found[1]


def tables_of_reports(
    study: optuna.Study,
    *,
    epochs: int | None = None,
    learning_rate: str = "learning_rate",
    seed: str = "seed",
    batch_size: int = 1,
) -> Tables:
    """``runs`` and ``curves`` as in ``studies.tables``, a step of report as an epoch: for ``reports.judge`` and ``classify``.

    epochs: the step at which a full run reports last, by default the last of all. learning_rate, seed: names of parameters;
    without the latter a run has the seed that ``EdgeSampler`` meant, or 0. batch_size: of all runs, for the tables alone.

    Runs are the trials that are complete, or pruned, which is ended by the search. Heights are not finite from the first one on
    that is not, and at the end where the value is not; such a run is over by itself, and is one, too, if Optuna failed it, as
    it does when the value is NaN. Of the runs of one learning rate and seed the last stands, a pruned one only where none was
    trained to its end. Left out are trials without a learning rate, without a height at step 0 or without one after it.
    """
    trials = study.get_trials(deepcopy=False, states=ENDED)
    objective = Objective(epochs or max([1, *(trial.last_step or 0 for trial in trials)]), learning_rate, seed)
    found: dict[tuple[float, int], tuple[dict[str, Any], tuple[Floats, Floats]]] = {}
    for trial in trials:
        point, curve = objective.point(trial), curve_of(trial, objective.epochs)
        if point is None or curve is None or learning_rate not in trial.params:
            continue
        row = {"learning_rate": point[0], "batch_size": batch_size, "seed": point[1], **_row(trial, *curve, objective.epochs)}
        whole = row["ended_early"] != BY_SEARCH
        if row["state"] != "FAIL" and (whole or point not in found or found[point][0]["ended_early"] == BY_SEARCH):
            found[point] = row, curve
    stand = sorted(found.values(), key=lambda run: int(run[0]["trial"]))
    steps, heights = (np.concatenate([np.zeros(0), *(curve[axis] for _, curve in stand)]) for axis in (0, 1))
    of = np.repeat(np.array([row["trial"] for row, _ in stand], int), [len(curve[0]) for _, curve in stand])
    kinds: dict[str, Any] = dict.fromkeys(WHOLE_NUMBERS, "Int64") | {HIGHEST: object, "ended_early": object}
    runs = pd.DataFrame([row for row, _ in stand], columns=COLUMNS.split()).astype(kinds | {"loss_as_at_start": float})
    columns = {"trial": of, "step": steps.astype(int), "epoch": steps, "metric": "height", "value": heights}
    return runs, pd.DataFrame(columns)


def _row(trial: FrozenTrial, steps: Floats, heights: Floats, epochs: int) -> dict[str, Any]:
    """What ``runs`` says of a run beside what was asked for."""
    bad, ended = np.flatnonzero(~np.isfinite(heights)), None
    if not len(bad):
        ended = BY_SEARCH if trial.state is TrialState.PRUNED else BY_OBJECTIVE if steps[-1] < epochs else None
    failed = trial.state is TrialState.FAIL and len(bad)
    return {
        "trial": trial.number,
        "state": "COMPLETE" if failed else trial.state.name,
        "epochs": float(steps[-1]),
        "steps": int(steps[-1]),
        "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
        "nonfinite_at": int(steps[bad[0]]) if len(bad) else None,
        "first_height": float(heights[0]),
        "final_height": final_height(steps, heights, ended_early=ended is not None),
        "ended_early": ended,
        "member_of": trial.number,
    }


def curve_of(trial: FrozenTrial, epochs: int) -> tuple[Floats, Floats] | None:
    """Steps and heights so far, inf once they are not finite; None without one at step 0 and one after it."""
    reports = dict(sorted(trial.intermediate_values.items()))
    if trial.state is TrialState.COMPLETE and reports and not math.isfinite(trial.values[0]):
        last = max(reports)
        reports[last if last >= epochs else last + 1] = math.inf
    if len(reports) < 2 or 0 not in reports:
        return None
    heights = np.array(list(reports.values()), dtype=float)
    heights[np.logical_or.accumulate(~np.isfinite(heights))] = math.inf
    return np.array(list(reports), dtype=float), heights


def yardstick_of(tables: Tables) -> Yardstick | None:
    """The yardstick of the only batch size, None before any run."""
    return next(iter(find_yardsticks(*tables).values()), None)


def asked_of(trial: FrozenTrial) -> Asked | None:
    """What ``EdgeSampler`` wants of a trial, None where it was not asked."""
    told = trial.system_attrs.get(ASKED)
    return None if told is None else Asked(*told)


def ends_of(distribution: BaseDistribution | None) -> Ends | None:
    """The range of a learning rate, with six digits as those that are tried; None where it is none on a log scale."""
    if not (isinstance(distribution, FloatDistribution) and distribution.log):
        return None
    inward = zip((ROUND_CEILING, ROUND_FLOOR), (distribution.low, distribution.high), strict=True)
    low, high = (float(Context(prec=6, rounding=way).create_decimal(repr(float(end)))) for way, end in inward)
    return (low, high) if low < high else None


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an int, which True is not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_whole(name: str, value: object) -> None:
    """Raises BadInput unless a value is a whole number of at least 1."""
    if not (is_whole(value) and value >= 1):
        raise BadInput(f"{name} must be a whole number of at least 1, got {value}")
