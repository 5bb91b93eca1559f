"""The pruner that goes with ``EdgeSampler``, for anybody's Optuna study."""

import math

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from reports.judging.decided import Query
from studies.samplers.reports_of_trials import Asked, Last, Objective, asked_of, curve_of, yardstick_of


class EdgePruner(BasePruner):
    """Ends a run when its verdict is known (``reports.judging.decided``), or when it is as long as ``EdgeSampler`` asked for.

    epochs, learning_rate, seed: as in ``EdgeSampler``. No run ends at step 0 or at the last one, ``epochs``. Those that
    ``EdgeSampler`` wants to see to the end go on to it as long as their heights are finite. With other samplers runs end when
    their verdict is known, too; but nobody checks then that those above the fastest do not recover.

    >>> import optuna
    >>> def train(trial):
    ...     rate = trial.suggest_float("learning_rate", 1e-3, 10, log=True)
    ...     for step in range(17):
    ...         height = 0.5 * (1 - rate) ** (2 * step)
    ...         trial.report(height, step)
    ...         if trial.should_prune():
    ...             raise optuna.TrialPruned
    ...     return height
    >>> study = optuna.create_study(pruner=EdgePruner(epochs=16))
    >>> for rate in 0.8, 0.4, 0.01:
    ...     study.enqueue_trial({"learning_rate": rate})
    >>> study.optimize(train, 3)
    >>> [(trial.state.name, trial.last_step) for trial in study.trials]
    [('COMPLETE', 16), ('PRUNED', 3), ('PRUNED', 3)]
    """

    def __init__(self, *, epochs: int, learning_rate: str = "learning_rate", seed: str = "seed") -> None:
        self._objective = Objective(epochs, learning_rate, seed)
        self._last = Last()

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the run may end at its last report."""
        ends, curve = self._objective.ends(trial), curve_of(trial, self._objective.epochs)
        if ends is None or curve is None or curve[0][-1] >= self._objective.epochs:
            return False
        if not math.isfinite(curve[1][-1]):
            return True
        rate, asked = trial.params[self._objective.learning_rate], asked_of(trial)
        if asked is None or asked.learning_rate != rate:  # somebody else chose it
            asked = Asked(rate, 0, None, True)
        until, yardstick = math.inf if asked.epochs is None else asked.epochs, None
        if asked.until_decided:
            yardstick = self._last(study, ends, lambda: yardstick_of(self._objective.tables(study, ends)))
        return Query(rate, asked.seed, until, yardstick).is_over(*curve)
