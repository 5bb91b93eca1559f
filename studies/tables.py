"""From an Optuna study to two tidy tables.

``runs``, a row a trial in order of trial number:

==================  =======  ===============================================================
trial               int      Optuna's number
learning_rate       float
batch_size          int      examples a step
seed                int
state               str      COMPLETE, FAIL or RUNNING
epochs              float    trained, in passes over the training set; fractional if stopped
steps               int      updates done
examples            int      seen
seconds             float    wall clock
nonfinite_at        Int64    first step that was not finite, missing if none
first_height        float    loss on the probe set before the first step
final_height        float    at the end (``reports.judging.verdicts.final_height``), inf if non-finite
validation_examples  Int64   that each validation looked at, 0 without validation, missing if unknown
val_...             float    final validation metrics, missing for non-finite runs
highest_learning_rates  str  that each parameter group stepped with, as "0.1" or "0.01; 0.1"; missing if unknown
ended_early         str      who ended the run before its budget, such as EarlyStopping; missing where nobody did
loss_as_at_start    float    final height by the loss of the start, where the loss changed in the run; missing otherwise
member_of           int      the first trial of the fit this run was trained in
error               str      why a trial failed, missing otherwise
traceback           str      where it failed, in many lines; missing where none was kept
==================  =======  ===============================================================

``curves``, tidy, by trial, metric and step: ``trial``, ``step`` (updates done), ``epoch`` (fractional), ``metric``
(``height``, ``minibatch_loss``, ``val_...``, and by its own name whatever else was logged), ``value`` (inf once non-finite).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from reports.figures.landscape import Landscape
from reports.judging.judged import Judged, judge
from reports.judging.verdicts import Thresholds
from reports.pages.folder import write_report
from reports.pages.study import no_command
from studies.next_run import OPTIONS, launch_command
from studies.storage.checksums import CHECKSUM, run_checksum, verified_trials
from studies.storage.checksums import CONFIGURATION as CONFIGURATION
from studies.storage.opening import self_check_name

if TYPE_CHECKING:  # it imports PyTorch, which reading a study does not need
    from studies.training.runs import Run

# Attributes of a study beside its configuration: how each batch size is trained and why, what ``studies.landscape`` found.
HOW_TRAINED, LANDSCAPE = "how_trained", "landscape"
REMARKS = "remarks"  # how the module was measured and fed, a list of sentences
STATES = (TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING)


def runs_table(study: optuna.Study) -> pd.DataFrame:
    """The table ``runs``; trials that were never started (no parameters) are left out."""
    return _runs_table(_trials(study))


def curves_table(study: optuna.Study) -> pd.DataFrame:
    """The table ``curves``."""
    return _curves_table(_trials(study))


def tables_of(runs: Sequence[Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``runs`` and ``curves`` straight from what ``train`` returned, numbered in its order, without a study."""
    space = {
        "learning_rate": FloatDistribution(0, math.inf),
        "batch_size": IntDistribution(1, 2**62),
        "seed": IntDistribution(0, 2**62),
    }
    trials = []
    for number, run in enumerate(runs):
        params = {name: getattr(run, name) for name in space}
        trial = create_trial(params=params, distributions=dict(space), value=run.value, user_attrs=facts_of(run))
        trial.number = number
        trials.append(trial)
    return _runs_table(trials), _curves_table(trials)


def facts_of(run: Run, **more: Any) -> dict[str, Any]:
    """What is stored of a run, as the user attributes of its trial: plain JSON, read back by the tables.

    Few attributes, as each costs Optuna's storage half a millisecond or more; ``more`` goes with the facts, and so does the
    checksum of them all.
    """
    facts: dict[str, Any] = {
        "epochs": run.epochs,
        "steps": run.steps,
        "examples": run.examples,
        "seconds": round(run.seconds, 4),
        "first_height": _plain(run.first_height),
        "validation_examples": run.validation_examples,
        "metrics": {name: _plain(value) for name, value in run.metrics.items()},
        "highest_learning_rates": [_plain(rate) for rate in run.highest_learning_rates],
    }
    if run.ended_by:
        facts["ended_early"] = run.ended_by
    if run.loss_as_at_start is not None:
        facts["loss_as_at_start"] = _plain(run.loss_as_at_start)
    attributes: dict[str, Any] = {
        "final_height": _plain(run.final_height),
        "nonfinite_at": run.nonfinite_at,
        "facts": facts | more,
        "curves": {name: [list(steps), [_plain(v) for v in values]] for name, (steps, values) in run.curves.items()},
    }
    attributes["facts"][CHECKSUM] = run_checksum(vars(run), run.value, attributes)
    return attributes


def _facts(trial: FrozenTrial) -> dict[str, Any]:
    """Everything that is stored of a run, as one mapping."""
    found: dict[str, Any] = trial.user_attrs | trial.user_attrs.get("facts", {})
    return found


def _plain(value: float) -> float | None:
    """A number JSON can hold: None for what is not finite (a bare NaN breaks browsers), seven digits, as float32 has."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _runs_table(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    rows = [_row(trial) for trial in trials]
    columns = "trial learning_rate batch_size seed state epochs steps examples seconds nonfinite_at first_height final_height"
    columns += " validation_examples"
    metrics = sorted({name for row in rows for name in row if name.startswith("val_")})
    told = ["highest_learning_rates", "ended_early", "loss_as_at_start"]
    table = pd.DataFrame(rows, columns=[*columns.split(), *metrics, *told, "member_of", "error", "traceback"])
    kinds: dict[str, Any] = dict.fromkeys(("nonfinite_at", "steps", "examples", "validation_examples"), "Int64")
    return table.astype(kinds | dict.fromkeys(told[:2], object) | {told[2]: float})


def _curves_table(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    columns = ["trial", "step", "epoch", "metric", "value"]
    numbers, metrics, lengths, steps, epochs, values = [], [], [], [], [], []
    for trial in trials:  # a row a curve; a DataFrame a curve would take most of the time of a large study's report
        facts = _facts(trial)
        per_epoch = facts["steps"] / facts["epochs"] if facts.get("epochs") else 1.0
        for metric, (at, found) in facts.get("curves", {}).items():
            numbers.append(trial.number)
            metrics.append(_text(metric))
            lengths.append(len(at))
            steps.append(np.array(at))
            epochs.append(steps[-1] / per_epoch)
            values.append(np.array([_number(value) for value in found], dtype=float))
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


def judge_study(study: optuna.Study, thresholds: Thresholds | None = None) -> Judged:
    """Everything a study taught, its self-check included where there is one, by the metric its configuration monitors."""
    facts = study.user_attrs.get(CONFIGURATION) or {}
    named, mode = facts.get("monitor") or "val_loss", facts.get("mode") or "min"
    monitor = _column(named)
    options: dict[str, Any] = {"monitor": monitor, "mode": mode, "own_learning_rate": study.user_attrs.get("own_learning_rate")}
    # A name that does not say validation may be logged in training too, and is the height then.
    options["height_is_loss"] = named == "val_loss" or monitor != f"val_{named}"
    options["remarks"] = study.user_attrs.get(REMARKS) or []
    return judge(*runs_and_curves(study), thresholds, fresh=fresh_tables(study), **options)


def _column(monitor: str) -> str:
    """The column of ``runs`` that holds a metric, by the name its module logs it under in validation."""
    if monitor == "val_loss":
        return monitor
    from lightning_modules.recorder import metric_name  # PyTorch: seconds, so only for studies that monitor something else

    return metric_name("val", monitor) or monitor


def report_study(study: optuna.Study, folder: str | Path, judged: Judged | None = None) -> Path:
    """Write the report of a study into ``folder`` and return the path of its page; judged: what ``judge_study`` returned."""
    facts = study.user_attrs
    command = partial(launch_command, study.study_name, facts[OPTIONS]) if OPTIONS in facts else no_command
    configuration = dict(facts.get(CONFIGURATION, {}))
    if HOW_TRAINED in facts:
        configuration["trained"] = {f"batch size {size}": how["why"] for size, how in facts[HOW_TRAINED].items()}
    landscape = facts.get(LANDSCAPE)
    return write_report(
        judged or judge_study(study),
        folder,
        title=study.study_name,
        configuration=configuration,
        command=command,
        landscape=Landscape.from_json(landscape) if landscape else None,
    )


def fresh_tables(study: optuna.Study) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """``runs`` and ``curves`` of the study's self-check, or None when there was none."""
    try:
        check = optuna.load_study(study_name=self_check_name(study.study_name), storage=study._storage)
    except KeyError:
        _refuse_renamed(study)
        return None
    return runs_and_curves(check)


def _refuse_renamed(study: optuna.Study) -> None:
    """Raise ValueError when there is a self-check of the study by another name than it has."""
    for other in study._storage.get_all_studies():
        if (other.user_attrs.get(CONFIGURATION) or {}).get("self_check_of") == study.study_name:
            raise ValueError(f"study {other.study_name!r} is the self-check of {study.study_name!r}: give it its name again")


def runs_and_curves(study: optuna.Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``runs_table`` and ``curves_table`` of one moment."""
    trials = _trials(study)  # once, as they are verified each time
    return _runs_table(trials), _curves_table(trials)


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in verified_trials(study) if trial.state in STATES and "learning_rate" in trial.params]


def _row(trial: FrozenTrial) -> dict[str, Any]:
    facts = _facts(trial)
    row = {"trial": trial.number, "state": trial.state.name, "member_of": facts.get("member_of", trial.number), **trial.params}
    row |= {name: facts.get(name) for name in ("epochs", "steps", "examples", "seconds", "nonfinite_at", "validation_examples")}
    row |= {name: _text(facts.get(name)) for name in ("ended_early", "error", "traceback")}
    highest = [f"{_number(rate):.7g}" for rate in facts.get("highest_learning_rates", ())]
    row["highest_learning_rates"] = "; ".join(highest) or None
    row["loss_as_at_start"] = _number(facts["loss_as_at_start"]) if "loss_as_at_start" in facts else math.nan
    if trial.state is TrialState.COMPLETE:
        row |= {name: _number(facts[name]) for name in ("first_height", "final_height")}
        row |= {_text(name): _number(value) for name, value in facts["metrics"].items()}
    return row


def _text(value: Any) -> Any:
    """Text without halves of characters, such as a file name that is not UTF-8 leaves in an exception: pyarrow refuses them."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _number(value: float | None) -> float:
    """Stored null means not finite."""
    return math.inf if value is None else value
