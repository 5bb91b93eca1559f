"""``torch.optim.SGD`` for many members at once, each at a learning rate and on a schedule of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler


class StackedSGD(Optimizer):
    """``torch.optim.SGD`` for stacked weights, shape (n_members, ...), with a learning rate for each member.

    members: an SGD for each, with the same groups; their weights are not touched.
    stacked: by the ``id`` of a weight of the first of them, the stacked weights that stand for it.

    Attributes:
        highest: of each member that there was, the highest learning rate that each group stepped with.
    """

    def __init__(self, members: Sequence[SGD], stacked: Mapping[int, Tensor]) -> None:
        self.members = list(members)
        self.highest = [[0.0] * len(members[0].param_groups) for _ in members]
        self._places = list(range(len(members)))  # of those that are left
        groups = members[0].param_groups
        super().__init__([group | {"params": [stacked[id(weight)] for weight in group["params"]]} for group in groups], {})
        self.follow()

    def follow(self) -> None:
        """Take the members' settings of this moment, which their schedules change."""
        for k, group in enumerate(self.param_groups):
            group |= {name: value for name, value in self.members[0].param_groups[k].items() if name != "params"}
            rates = [float(member.param_groups[k]["lr"]) for member in self.members]
            first = group["params"][0]
            precision = torch.promote_types(torch.float32, first.dtype)
            group["rates"] = torch.tensor(rates, dtype=precision, device=first.device)
        self._has_new_rates = True

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all members."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        if self._has_new_rates:
            for place, member in zip(self._places, self.members, strict=True):
                self.highest[place] = [*map(max, self.highest[place], (float(group["lr"]) for group in member.param_groups))]
            self._has_new_rates = False
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(group, weight, weight.grad)
        return loss

    def _update(self, group: dict[str, Any], weight: Tensor, gradient: Tensor) -> None:
        momentum, state = group["momentum"], self.state[weight]
        if group["weight_decay"]:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
        if momentum:
            if "momentum_buffer" in state:
                state["momentum_buffer"].mul_(momentum).add_(gradient, alpha=1 - group["dampening"])
            else:
                state["momentum_buffer"] = gradient.clone()
            velocity = state["momentum_buffer"]
            gradient = gradient.add(velocity, alpha=momentum) if group["nesterov"] else velocity
        rates = group["rates"].view(-1, *[1] * (weight.ndim - 1))
        weight.addcmul_(gradient, rates, value=1.0 if group["maximize"] else -1.0)

    def keep(self, places: Sequence[int]) -> None:
        """Forget the members that are not at ``places``."""
        self.members = [self.members[place] for place in places]
        self._places = [self._places[place] for place in places]
        for group in self.param_groups:
            group["rates"] = group["rates"][list(places)]
        for state in self.state.values():
            if "momentum_buffer" in state:
                state["momentum_buffer"] = state["momentum_buffer"][list(places)]


class StackedScheduler(LRScheduler):
    """The schedules of all members, stepped together.

    schedulers: one a member, each of that member's own optimizer.
    """

    optimizer: StackedSGD

    def __init__(self, optimizer: StackedSGD, schedulers: Sequence[LRScheduler]) -> None:
        self.optimizer, self.schedulers = optimizer, schedulers
        for scheduler in schedulers:
            scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]  # else it would warn that no step came before

    def step(self, epoch: int | None = None) -> None:
        """One step of each schedule."""
        for scheduler in self.schedulers:
            scheduler.step()
        self.optimizer.follow()
