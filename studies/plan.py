"""What is to be trained: runs that are planned, and which of them are missing."""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Planned(NamedTuple):
    """A run from the plan to its training: with which learning rate, at which batch size, from which seed."""

    learning_rate: float
    batch_size: int
    seed: int


def missing(plan: Iterable[Planned], complete: Iterable[Any]) -> list[Planned]:
    """What of a plan none of the complete trials is, in the order of the plan; complete: trials of Optuna's."""
    done = {Planned(**{name: trial.params[name] for name in Planned._fields}) for trial in complete}
    return [planned for planned in plan if planned not in done]
