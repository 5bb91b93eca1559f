"""Metric objects of ``torchmetrics`` that a module logs: one a member, told outside of ``vmap`` what the module gave it."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchmetrics import Metric, MetricCollection

from lightning_modules.run_state import Slot

OBJECTS = (Metric, MetricCollection)


class Heard(nn.Module):
    """Stands for a metric object in a module under ``vmap`` and keeps what it is given.

    calls: arguments since they were last cleared. names: of the metrics of a collection.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.names = names

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Keep what it is given."""
        self.calls.append(tree_map(lambda held: held.detach() if isinstance(held, Tensor) else held, (args, kwargs)))

    def forward(self, *args: Any, **kwargs: Any) -> "OfBatch":
        """Keep what it is given; nobody knows the value of the batch yet."""
        self.update(*args, **kwargs)
        return OfBatch()


class OfBatch:
    """The value of a metric object for one batch, which is not known under ``vmap``."""


class StackedMetrics:
    """The metric objects of a module, one for each member; in the module itself ``Heard`` stand in their place."""

    def __init__(self, module: nn.Module, n_members: int) -> None:
        self.heard: list[Heard] = []
        self._members: list[list[Any]] = []
        for parent in list(module.modules()):
            for name, child in parent.named_children():
                if isinstance(child, OBJECTS):
                    self.heard.append(Heard([*map(str, child.keys())] if isinstance(child, MetricCollection) else ()))
                    self._members.append([copy.deepcopy(child) for _ in range(n_members)])
                    setattr(parent, name, self.heard[-1])

    def to(self, device: torch.device) -> None:
        """Move them."""
        for members in self._members:
            for metric in members:
                metric.to(device)

    def give(self, calls: Sequence[Any], alive: Sequence[int]) -> None:
        """Give each member at its place among ``alive`` its part of what was heard of each object, shape (n_stacked, ...)."""
        for members, heard in zip(self._members, calls, strict=True):
            for call in heard:
                for place, member in enumerate(alive):
                    args, kwargs = tree_map(lambda held, place=place: held[place], call)
                    members[member].update(*args, **kwargs)

    def take(self, logged: Mapping[str, Heard], alive: Sequence[int]) -> dict[str, list[float]]:
        """By the name it is logged under, the value of each member's object, which begins anew."""
        of = {id(heard): members for heard, members in zip(self.heard, self._members, strict=True)}
        values: dict[str, list[float]] = {}
        for name, heard in logged.items():
            found = [of[id(heard)][member].compute() for member in alive]
            values[name] = [float(each[name] if heard.names else each) for each in found]
        for heard in logged.values():
            for metric in of[id(heard)]:
                metric.reset()
        return values


def without_metrics(module: nn.Module, slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """Of the places where a module keeps a state those that are not in a metric object, which no loss looks at."""
    inside = {path for path, part in module.named_modules() if isinstance(part, OBJECTS)}
    return tuple((path, name) for path, name in slots if path not in inside)
