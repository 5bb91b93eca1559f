"""Dropout for many members at once: each drops what it would drop alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# Trailing axes that are dropped as one: all of a channel.
SHARED_AXES: dict[type, int] = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}

Draw = Callable[[Callable[[], Tensor]], Tensor]


class SeededDropout(nn.Module):
    """A dropout layer under ``vmap``, with the random numbers of each member's own seed.

    draw: calls a function with the random numbers of each seed in turn and stacks what it gives.
    place: of the member's seed in that order; set before each call.
    """

    def __init__(self, probability: float, n_shared_axes: int, draw: Draw) -> None:
        super().__init__()
        self.probability, self.n_shared_axes, self.draw = probability, n_shared_axes, draw
        self.place = torch.tensor(0)

    def forward(self, inputs: Tensor) -> Tensor:
        """What is kept, scaled up; shape as it came. Drawn as ``torch.nn.functional.dropout`` draws on a CPU."""
        if not self.training or self.probability == 0:
            return inputs
        kept = inputs.ndim - self.n_shared_axes
        shape = inputs.shape[:kept] + (1,) * self.n_shared_axes

        def mask() -> Tensor:
            return torch.empty(shape, dtype=inputs.dtype).bernoulli_(1 - self.probability).div_(1 - self.probability)

        return inputs * self.draw(mask).to(inputs.device)[self.place]


def seed_dropout(module: nn.Module, draw: Draw) -> list[SeededDropout]:
    """Put ``SeededDropout`` in the place of a module's dropout layers; returns them."""
    found = []
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) in SHARED_AXES:
                layer: Any = child
                found.append(SeededDropout(layer.p, SHARED_AXES[type(layer)], draw))
                setattr(parent, name, found[-1])
    return found
