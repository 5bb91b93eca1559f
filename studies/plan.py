"""What is to be trained: runs that are planned, and which of them are missing."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from reports.judging.decided import Query


class Planned(NamedTuple):
    """A run from the plan to its training: with which learning rate, at which batch size, from which seed."""

    learning_rate: float
    batch_size: int
    seed: int


class RunsInAll(int):
    """How many runs a study has in all, as far as that is known: those that finished, and those that are to be trained.

    n_failed: how many of them failed, in this launch. seconds_left: until the last has ended, None before it is known what a
    run costs at each batch size that is left. at: where a search is, such as "batch size 64, 2 of 3", as it may go on.
    """

    n_failed: int = 0
    seconds_left: float | None = None
    at: str = ""


Asked = tuple[Planned, Query]
"""A run that a search asks for, and how far it is to be trained."""


def missing(plan: Iterable[Planned], complete: Iterable[Any]) -> list[Planned]:
    """What of a plan none of the complete trials is, in the order of the plan; complete: trials of Optuna's."""
    done = {Planned(**{name: trial.params[name] for name in Planned._fields}) for trial in complete}
    return [planned for planned in plan if planned not in done]
