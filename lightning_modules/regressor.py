"""A network that learns numbers by mean squared error and SGD."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torchmetrics.regression import R2Score

from lightning_modules.sgd import SGDModule


class Regressor(SGDModule):
    """Mean squared error over examples and targets; logs ``val_loss`` and ``val_r2`` over all validation examples.

    A batch is (inputs, targets): what ``network`` takes, and floats of shape (n_examples, n_outputs). ``val_r2`` is 1 for a
    perfect fit, 0 for predicting the mean, and NaN for fewer than two examples, which leave it undefined.

    Args:
        network: maps inputs to predictions, shape (n_examples, n_outputs).
        learning_rate, momentum, weight_decay, nesterov: as in ``torch.optim.SGD``; see ``SGDModule`` for their limits.

    Raises ValueError in a step when targets and predictions differ in shape: (n,) against (n, 1) would silently compare
    every example with every other.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        self.network = network
        self._r2 = _R2()

    def forward(self, inputs: Tensor) -> Tensor:
        """Predictions, shape (n_examples, n_outputs)."""
        predictions: Tensor = self.network(inputs)
        return predictions

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error of the batch, a scalar."""
        inputs, targets = batch
        return _mean_squared_error(self.network(inputs), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss, each batch counting by its size, and R2 over all: the mean of the batches' R2 is another number."""
        inputs, targets = batch
        predictions = self.network(inputs)
        self.log("val_loss", _mean_squared_error(predictions, targets), batch_size=len(targets))
        self._r2.update(predictions, targets)
        self.log("val_r2", self._r2, on_epoch=True, batch_size=len(targets))


class _R2(R2Score):
    def compute(self) -> Tensor:
        return super().compute() if self.total >= 2 else torch.tensor(math.nan)


def _mean_squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    if predictions.shape != targets.shape:
        raise ValueError(f"targets must have the predictions' shape {tuple(predictions.shape)}, got {tuple(targets.shape)}")
    return mse_loss(predictions, targets)
