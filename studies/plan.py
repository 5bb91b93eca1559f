"""What is to be trained: runs that are planned, and which of them are missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # workers, which only train, do without Optuna
    from optuna.trial import FrozenTrial


class Planned(NamedTuple):
    """A run from the plan to its training: with which learning rate, at which batch size, from which seed."""

    learning_rate: float
    batch_size: int
    seed: int


def missing(plan: Iterable[Planned], complete: Collection[FrozenTrial]) -> list[Planned]:
    """What of a plan none of the complete trials is, in the order of the plan."""
    done = {Planned(**{name: trial.params[name] for name in Planned._fields}) for trial in complete}
    return [planned for planned in plan if planned not in done]
