"""From an Optuna study to two tidy tables.

``runs``, a row a trial in order of trial number:

==================  =======  ===============================================================
trial               int      Optuna's number
learning_rate       float
batch_size          int      examples a step
seed                int
state               str      COMPLETE, PRUNED (ended by the search, or as long as its runs were before), FAIL or RUNNING
epochs              float    trained, in passes over the training set; fractional if stopped
steps               int      updates done
examples            int      seen
seconds             float    wall clock
examples_before     int      seen by shorter trainings of the run, which the search had ended; a column where there are any
seconds_before      float    of those
nonfinite_at        Int64    first step that was not finite, missing if none
first_height        float    loss on the probe set before the first step
final_height        float    at the end (``reports.judging.verdicts.final_height``), inf if non-finite
validation_examples  Int64   that each validation looked at, 0 without validation, missing if unknown
val_...             float    final validation metrics, missing for non-finite runs
highest_learning_rates  str  that each parameter group stepped with, as "0.1" or "0.01; 0.1"; missing if unknown
ended_early         str      who ended the run before its budget, such as EarlyStopping; missing where nobody did
loss_as_at_start    float    final height by the loss of the start, where the loss changed in the run; missing otherwise
member_of           int      the first trial in the table of the fit this run was trained in
error               str      why a trial failed, missing otherwise
traceback           str      where it failed, in many lines; missing where none was kept
==================  =======  ===============================================================

``curves``, tidy, by trial, metric and step: ``trial``, ``step`` (updates done), ``epoch`` (fractional), ``metric``
(``height``, ``minibatch_loss``, ``val_...``, and by its own name whatever else was logged), ``value`` (inf once non-finite).
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from reports.judging.decided import BY_SEARCH
from studies.storage.checksums import verified_trials
from studies.storage.stored import BUDGETS, CONFIGURATION, PARAMS, attributes_of, budget_of, facts_of, is_planned, number

if TYPE_CHECKING:  # PyTorch, which reading a study does without
    from studies.training.runs import Run

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STATES = (*FINISHED, TrialState.FAIL, TrialState.RUNNING)


def runs_table(study: optuna.Study) -> pd.DataFrame:
    """The table ``runs``; trials that were never started, without all parameters, are left out."""
    trials, before, short = _trials(study)
    return _runs_table(trials, before, short)


def curves_table(study: optuna.Study) -> pd.DataFrame:
    """The table ``curves``."""
    return _curves_table(_trials(study)[0])


def tables_of(runs: "Sequence[Run]") -> tuple[pd.DataFrame, pd.DataFrame]:
    """``runs`` and ``curves`` straight from what ``train`` returned, numbered in its order, without a study."""
    kinds = FloatDistribution(0, math.inf), IntDistribution(1, 2**62), IntDistribution(0, 2**62)
    space = dict(zip(PARAMS, kinds, strict=True))
    trials = []
    for index, run in enumerate(runs):
        params = {name: getattr(run, name) for name in space}
        trial = create_trial(params=params, distributions=space, value=run.value, user_attrs=attributes_of(run))
        trial.number = index
        trials.append(trial)
    return _runs_table(trials), _curves_table(trials)


def _runs_table(
    trials: Sequence[FrozenTrial], before: Mapping[int, Sequence[FrozenTrial]] | None = None, short: Collection[int] = ()
) -> pd.DataFrame:
    rows = [_row(trial) for trial in trials]
    columns = "trial learning_rate batch_size seed state epochs steps examples seconds nonfinite_at first_height final_height"
    columns += " validation_examples"
    metrics = sorted({name for row in rows for name in row if name.startswith("val_")})
    told = ["highest_learning_rates", "ended_early", "loss_as_at_start"]
    table = pd.DataFrame(rows, columns=[*columns.split(), *metrics, *told, "member_of", "error", "traceback"])
    if before:
        table["member_of"] = table.groupby("member_of")["trial"].transform("min")  # its first trial may stand no more
        for name in ("examples", "seconds"):
            table[f"{name}_before"] = [sum(facts_of(trial)[name] for trial in before.get(at, ())) for at in table["trial"]]
    table.loc[table["trial"].isin(short), ["state", "ended_early"]] = TrialState.PRUNED.name, BY_SEARCH
    kinds: dict[str, Any] = dict.fromkeys(("nonfinite_at", "steps", "examples", "validation_examples"), "Int64")
    return table.astype(kinds | dict.fromkeys(told[:2], object) | {told[2]: float})


def _curves_table(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    columns = ["trial", "step", "epoch", "metric", "value"]
    numbers, metrics, lengths, steps, epochs, values = [], [], [], [], [], []
    for trial in trials:  # a row a curve; a DataFrame a curve would take most of the time of a large study's report
        facts = facts_of(trial)
        per_epoch = facts["steps"] / facts["epochs"] if facts.get("epochs") else 1.0
        for metric, (at, found) in facts.get("curves", {}).items():
            numbers.append(trial.number)
            metrics.append(_text(metric))
            lengths.append(len(at))
            steps.append(np.array(at))
            epochs.append(steps[-1] / per_epoch)
            values.append(np.array([number(value) for value in found], dtype=float))
    if not numbers:
        return pd.DataFrame(columns=columns)
    rows = np.repeat(np.arange(len(numbers)), lengths)
    table = {
        "trial": np.array(numbers)[rows],
        "step": np.concatenate(steps),
        "epoch": np.concatenate(epochs),
        "metric": pd.Series(metrics).take(rows).array,
        "value": np.concatenate(values),
    }
    return pd.DataFrame(table)


def runs_and_curves(study: optuna.Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``runs_table`` and ``curves_table`` of one moment."""
    trials, before, short = _trials(study)  # once, as they are verified each time
    return _runs_table(trials, before, short), _curves_table(trials)


def short_runs(study: optuna.Study, trials: Iterable[FrozenTrial]) -> set[int]:
    """The trials trained to the end when the runs of their study had fewer epochs, or steps: they count as ended early."""
    attributes = study.user_attrs  # read once, as each time asks the storage
    configuration = attributes.get(CONFIGURATION) or {}
    unit = budget_of(configuration)
    budgets = [each for each in attributes.get(BUDGETS, []) if each[1] < configuration[unit]]
    found = set[int]()
    for trial in trials if budgets else ():
        had = next((length for before, length in budgets if trial.number < before), math.inf)
        if trial.state is TrialState.COMPLETE and had < math.inf:
            facts = facts_of(trial)
            ended = facts.get("ended_early") is not None or facts.get("nonfinite_at") is not None
            if not ended and facts[unit] > had * (1 - 1e-9):
                found.add(trial.number)
    return found


def _trials(study: optuna.Study) -> tuple[list[FrozenTrial], dict[int, list[FrozenTrial]], set[int]]:
    """Those that the tables show; by their number shorter ones of the same run, ended before; and which are ``short_runs``."""
    found = [trial for trial in verified_trials(study) if trial.state in STATES and "learning_rate" in trial.params]
    found = [trial for trial in found if trial.state is TrialState.COMPLETE or is_planned(trial)]
    last = {tuple(map(trial.params.get, PARAMS)): trial.number for trial in found if trial.state in FINISHED}
    short = short_runs(study, found)
    shown: list[FrozenTrial] = []
    before: dict[int, list[FrozenTrial]] = {}
    for trial in found:
        number = last.get(tuple(map(trial.params.get, PARAMS)), trial.number)
        again = number != trial.number and (trial.state is TrialState.PRUNED or trial.number in short)
        (before.setdefault(number, []) if again else shown).append(trial)
    return shown, before, short


def _row(trial: FrozenTrial) -> dict[str, Any]:
    facts = facts_of(trial)
    row = {"trial": trial.number, "state": trial.state.name, "member_of": facts.get("member_of", trial.number), **trial.params}
    row |= {name: facts.get(name) for name in ("epochs", "steps", "examples", "seconds", "nonfinite_at", "validation_examples")}
    row |= {name: _text(facts.get(name)) for name in ("ended_early", "error", "traceback")}
    highest = [f"{number(rate):.7g}" for rate in facts.get("highest_learning_rates", ())]
    row["highest_learning_rates"] = "; ".join(highest) or None
    row["loss_as_at_start"] = number(facts["loss_as_at_start"]) if "loss_as_at_start" in facts else math.nan
    if trial.state in FINISHED:
        row |= {name: number(facts[name]) for name in ("first_height", "final_height")}
        row |= {_text(name): number(value) for name, value in facts["metrics"].items()}
    return row


def _text(value: Any) -> Any:
    """Text without halves of characters, such as a file name that is not UTF-8 leaves in an exception: pyarrow refuses them."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
