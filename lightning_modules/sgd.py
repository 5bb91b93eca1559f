"""What the modules share: one learning rate, checked at the door, and plain SGD at it."""

import math

import pytorch_lightning as pl
from torch.optim import SGD


class SGDModule(pl.LightningModule):
    """Abstract: a module trained by ``torch.optim.SGD`` at a constant learning rate; children add network and loss.

    The attributes ``learning_rate``, ``momentum``, ``weight_decay`` and ``nesterov`` are read when the fit begins, so they
    may be set after construction.

    Raises ValueError for a learning rate that is not above 0, a momentum or weight decay below 0, any of them not finite,
    and for ``nesterov`` without momentum.
    """

    def __init__(self, learning_rate: float, *, momentum: float, weight_decay: float, nesterov: bool) -> None:
        super().__init__()
        if not (math.isfinite(learning_rate) and learning_rate > 0):
            raise ValueError(f"learning_rate must be above 0 and finite, got {learning_rate}")
        for name, value in (("momentum", momentum), ("weight_decay", weight_decay)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")
        if nesterov and momentum == 0:
            raise ValueError(f"nesterov needs a momentum above 0, got {momentum}")
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov

    def configure_optimizers(self) -> SGD:
        """SGD over all parameters at the learning rate of this moment."""
        return SGD(
            self.parameters(),
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )
