"""What the database holds of a study: the names of all attributes, what is written of a run, and how it is read."""

import json
import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any
from zlib import crc32

from reports.judging.decided import BY_SEARCH

if TYPE_CHECKING:  # PyTorch and Optuna, which names do without
    from optuna.trial import FrozenTrial

    from studies.training.runs import Run

SELF_CHECK = ".self-check"  # the end of the name of the study that holds the self-check of another

CONFIGURATION = "configuration"  # what makes it the study that it is: see ``studies.identity``
ADOPTED = "adopted_from"  # in the configuration of a study of runs that were trained elsewhere: where their logs are
SELF_CHECK_OF = "self_check_of"  # in the configuration of a self-check: the study it checks
OPTIONS = "options"  # what ``StudyConfig`` was given, for commands to paste
REMARKS = "remarks"  # how the module was measured and fed, a list of sentences
HOW_TRAINED = "how_trained"  # how each batch size is trained, and why
LANDSCAPE = "landscape"  # what ``studies.landscape`` found
OPTIMIZERS = "optimizers"  # settings of each parameter group: see ``studies.training.optimizers``
OWN_LEARNING_RATE = "own_learning_rate"  # that a module of the user's has today
BRACKET = "bracket"  # learning rates between which a search that was given none began, and why
UNFINISHED = "unfinished"  # what ended a search before it was done, "" where nothing did
BUDGETS = "budgets"  # of a search that was given more epochs or steps: before which trial, and how many there had been
ROUND = "round"  # of a search: the runs it asked for last, and before which trial
# System attributes of a study, which Optuna Dashboard does not show.
CHECKSUMS = "learning_rates:checksums"  # of the configuration, and from which trial on each has one
OUR_NOTE = "learning_rates:note_version"  # the version of the dashboard's note that we wrote last

# A trial: its parameters, and the attributes that the tables read.
PARAMS = ("learning_rate", "batch_size", "seed")
ATTRIBUTES = "facts curves final_height nonfinite_at error traceback".split()
FACTS, CURVES, FINAL_HEIGHT, NONFINITE_AT, ERROR, TRACEBACK = ATTRIBUTES
ORIGIN = "origin"  # among the facts of an adopted run: what its log is called
CHECKSUM = "checksum"  # among the facts of a run, or an attribute of a trial that failed


def self_check_name(name: str) -> str:
    """The name of the study that holds the self-check of ``name``."""
    return name + SELF_CHECK


def budget_of(configuration: Mapping[str, Any]) -> str:
    """The option of a configuration that says how long a run is, and the column that counts it: ``epochs`` or ``steps``."""
    return "steps" if configuration.get("steps") else "epochs"


def split_name(name: str) -> tuple[str, str]:
    """The name of a study, and the ending that makes it the one of its self-check or "".

    >>> split_name("digits.self-check"), split_name("digits")
    (('digits', '.self-check'), ('digits', ''))
    """
    study = name.removesuffix(SELF_CHECK)
    return study, name[len(study) :]


def attributes_of(run: "Run", **more: Any) -> dict[str, Any]:
    """What is stored of a run, as the user attributes of its trial: plain JSON, read back by ``facts_of``.

    Few attributes, as each costs Optuna's storage half a millisecond or more; ``more`` goes with the facts, and so does the
    checksum of them all.
    """
    facts: dict[str, Any] = {
        "epochs": run.epochs,
        "steps": run.steps,
        "examples": run.examples,
        "seconds": None if math.isnan(run.seconds) else round(run.seconds, 4),
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
        FINAL_HEIGHT: _plain(run.final_height),
        NONFINITE_AT: run.nonfinite_at,
        FACTS: facts | more,
        CURVES: {name: [list(steps), [_plain(v) for v in values]] for name, (steps, values) in run.curves.items()},
    }
    value = None if run.ended_by == BY_SEARCH else run.value  # such a trial is pruned, and has none
    attributes[FACTS][CHECKSUM] = run_checksum(vars(run), value, attributes)
    return attributes


def attributes_of_failure(params: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a trial that failed, its error among them, with their checksum."""
    return {**attributes, CHECKSUM: run_checksum(params, None, attributes)}


def facts_of(trial: "FrozenTrial") -> dict[str, Any]:
    """Everything that is stored of a run, as one mapping; numbers as ``number`` reads them."""
    found: dict[str, Any] = trial.user_attrs | trial.user_attrs.get(FACTS, {})
    return found


def is_planned(trial: "FrozenTrial") -> bool:
    """Whether a trial has all parameters of a run: one that was killed while it began has not."""
    return all(name in trial.params for name in PARAMS)


def number(value: float | None) -> float:
    """A stored number: null means not finite."""
    return math.inf if value is None else value


def _plain(value: float) -> float | None:
    """A number JSON can hold: None for what is not finite (a bare NaN breaks browsers), seven digits, as float32 has."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def run_checksum(params: Mapping[str, Any], value: float | None, attributes: Mapping[str, Any]) -> int:
    """Of all that the tables read of a run: its parameters, its value, None without one, and the attributes of its trial."""
    numbers = [float(each) or 0.0 if isinstance(each, Real) else None for each in (*map(params.get, PARAMS), value)]
    read = {name: attributes[name] for name in ATTRIBUTES if name in attributes}
    if isinstance(facts := read.get(FACTS), Mapping):
        read[FACTS] = {name: fact for name, fact in facts.items() if name != CHECKSUM}
    return checksum([numbers, read])


def checksum(content: Any) -> int:
    """Of plain JSON, whatever the order of its keys."""
    return crc32(json.dumps(content, sort_keys=True).encode())
