"""``torch.optim.SGD`` for many members at once, each at a learning rate of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class StackedSGD(Optimizer):
    """``torch.optim.SGD`` for stacked weights, shape (n_members, ...), with a learning rate for each member.

    groups: those of an SGD, with ``rates``, shape (n_members,), in place of one learning rate.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 1.0})
        for group in self.param_groups:
            group["rates"] = group["rates"].to(group["params"][0].device)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all members."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
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

    def keep(self, places: Tensor) -> None:
        """Forget the members that are not at ``places``."""
        for group in self.param_groups:
            group["rates"] = group["rates"][places]
        for state in self.state.values():
            if "momentum_buffer" in state:
                state["momentum_buffer"] = state["momentum_buffer"][places]
