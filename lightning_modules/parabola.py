"""The hill itself: a quadratic loss with known eigenvalues, where every verdict follows from a formula."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_modules.in_memory import InMemoryData, Splits
from lightning_modules.sgd import SGDModule


class Parabola(SGDModule):
    """J(theta) = 1/2 sum_j lambda_j theta_j^2, walked down by SGD in float64 so that formulas hold to rounding.

    Without noise and momentum a step multiplies theta_j by (1 - learning_rate lambda_j): it shrinks without overshooting
    below 1 / lambda_j, overshoots up to 2 / lambda_j and grows for ever above. A batch is (offsets, _) with offsets x_i of
    shape (n_examples, 1); its loss is the mean over i of 1/2 sum_j lambda_j (theta_j - x_i)^2, whose gradient is that of J
    plus lambda_j times minus the mean offset. (float64 needs a CPU or CUDA device, not Apple's mps.)

    Args:
        eigenvalues: lambda_j, the steepness along each axis, above 0.
        learning_rate, momentum: as in ``torch.optim.SGD``.
        start: theta before the first step: one number for all axes or one an axis.

    Raises ValueError for eigenvalues not above 0, a start that is not finite or of another length, and a learning rate or
    momentum as in ``SGDModule``.
    """

    eigenvalues: Tensor

    def __init__(
        self,
        eigenvalues: Sequence[float] = (1.0,),
        learning_rate: float = 0.1,
        momentum: float = 0.0,
        start: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, weight_decay=0.0, nesterov=False)
        if not eigenvalues or not all(math.isfinite(value) and value > 0 for value in eigenvalues):
            raise ValueError(f"eigenvalues must be above 0 and finite, got {tuple(eigenvalues)}")
        starts = tuple(start) if isinstance(start, Sequence) else (start,) * len(eigenvalues)
        if len(starts) != len(eigenvalues):
            raise ValueError(f"start must be one number or one an eigenvalue ({len(eigenvalues)}), got {starts}")
        if not all(math.isfinite(value) for value in starts):
            raise ValueError(f"start must be finite, got {starts}")
        self.register_buffer("eigenvalues", torch.tensor(eigenvalues, dtype=torch.float64))
        self.theta = nn.Parameter(torch.tensor(starts, dtype=torch.float64))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The batch's loss, a scalar."""
        offsets, _ = batch
        return 0.5 * ((self.theta - offsets).square() @ self.eigenvalues).mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the batch's loss, should there be validation data."""
        self.log("val_loss", self.training_step(batch, batch_idx), batch_size=len(batch[0]))


class ParabolaData(InMemoryData):
    """Offsets that shake the hill: their mean is exactly 0 and their standard deviation is ``noise``.

    All examples together pull to theta = 0, as the hill does; a batch of B pulls to its own mean, about noise / sqrt(B)
    away, so gradient noise shrinks with the batch size. The offsets are evenly spaced, the same for every seed; the seed
    orders them. There are no validation data: the height on all examples is already exact.

    Args:
        n_examples: number of offsets, so ``n_examples / batch_size`` steps are an epoch.
        noise: standard deviation of the offsets; 0 is the pure hill. It lifts the floor by noise^2 / 2 times the sum of
            the eigenvalues.
        batch_size, seed: as in ``InMemoryData``.

    Raises ValueError for fewer than one example (two with noise: one offset of mean 0 has no spread) and for noise below 0.
    """

    input_shape = (1,)
    n_outputs = 1

    def __init__(self, n_examples: int = 16, noise: float = 0.0, batch_size: int = 1, seed: int = 0) -> None:
        super().__init__(batch_size, seed)
        if not (math.isfinite(noise) and noise >= 0):
            raise ValueError(f"noise must be at least 0 and finite, got {noise}")
        least = 2 if noise else 1
        if n_examples < least:
            raise ValueError(f"n_examples must be at least {least} (noise {noise:g}), got {n_examples}")
        self.n_examples = n_examples
        self.noise = noise

    def load(self) -> Splits:
        """The offsets, float64 of shape (n_examples, 1), twice: nothing reads the targets."""
        offsets = torch.linspace(-1, 1, self.n_examples, dtype=torch.float64)
        if self.noise:
            offsets = self.noise / offsets.std(correction=0) * offsets
        else:
            offsets = torch.zeros_like(offsets)
        offsets = offsets[:, None]
        return Splits(TensorDataset(offsets, offsets), None)
