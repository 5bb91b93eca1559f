"""What happened in a run: heights on the probe set, minibatch losses, validation metrics, the first non-finite step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch

MAX_POINTS = 200  # heights of a run: enough for any curve on a page, small enough to store as one attribute
POINTS_PER_EPOCH = 4


def probe_steps(steps_per_epoch: int, epochs: int) -> list[int]:
    """Steps (updates done) at which the height is measured: 0, 1, 2, 4, 8, ..., then evenly to the last, inclusive.

    At least four times an epoch where an epoch has that many steps. A run keeps at most about 200 points, so runs of more
    than 45 epochs or so are measured less often than that.

    >>> probe_steps(8, 2)
    [0, 1, 2, 4, 6, 8, 10, 12, 14, 16]
    """
    last = steps_per_epoch * epochs
    doubling = [0] + [2**k for k in range(last.bit_length()) if 2**k <= last]
    even = min(last, POINTS_PER_EPOCH * epochs, MAX_POINTS - len(doubling))
    return sorted({*doubling, *(round(last * (i + 1) / even) for i in range(even))})


class Recorder(pl.Callback):
    """Records one run as ``curves`` and stops it at its first non-finite loss, height or weight.

    Step t is the state after t updates: the height at step t and the minibatch loss at step t belong to the same weights.

    Args:
        probe_batches: the fixed training examples the height is measured on, as batches of the module's own kind.
        steps: the steps at which to measure, ascending, starting with 0 (see ``probe_steps``).

    Attributes:
        curves: metric name to list of (step, value); ``height``, ``minibatch_loss``, and every ``val_...`` metric the module
            logs. A run that turned non-finite ends its ``height`` with inf at that step.
        nonfinite_at: the first step whose loss, weights or height were not finite; None if all were.
        step: updates done so far.
        validation_examples: examples of the last validation, 0 when there was none.
    """

    def __init__(self, probe_batches: Sequence[Any], *, steps: Iterable[int]) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {"height": [], "minibatch_loss": []}
        self.nonfinite_at: int | None = None
        self.step = 0
        self.validation_examples = 0
        self._probe_batches = probe_batches
        self._steps = frozenset(steps)
        self._parameters: list[torch.Tensor] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the height before the first step."""
        self._parameters = list(pl_module.parameters())
        self._probe_batches = [pl_module.transfer_batch_to_device(batch, pl_module.device, 0) for batch in self._probe_batches]
        self._measure(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the minibatch loss of the step just done, then look at the weights and the height after it."""
        if "loss" not in (outputs or {}):  # the module skipped this batch
            return
        loss = float(outputs["loss"])
        if self.step in self._steps or not math.isfinite(loss):
            self.curves["minibatch_loss"].append((self.step, loss))
        if not math.isfinite(loss):
            self._stop(trainer, self.step)
        self.step = trainer.global_step
        if not all_finite(self._parameters):
            self._stop(trainer, self.step)
        if self.step in self._steps and self.nonfinite_at is None:
            self._measure(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the examples of each validation anew."""
        self.validation_examples = 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch's examples."""
        self.validation_examples += len(batch[0])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what the module logged; a run that is no longer finite has no metrics (its accuracy would still be a number)."""
        if trainer.sanity_checking or self.nonfinite_at is not None:
            return
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val_"):
                self.curves.setdefault(name, []).append((self.step, float(value)))

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        height = mean_loss(pl_module, self._probe_batches)
        if math.isfinite(height):
            self.curves["height"].append((self.step, height))
        else:
            self._stop(trainer, self.step)

    def _stop(self, trainer: pl.Trainer, step: int) -> None:
        trainer.should_stop = True
        if self.nonfinite_at is None:
            self.nonfinite_at = step
            self.curves["height"] = [point for point in self.curves["height"] if point[0] < step] + [(step, math.inf)]


@torch.no_grad()
def all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether every number is finite: their sum tells in a tenth of the time, and only a sum that is not is looked into."""
    total = sum((t.sum() for t in tensors), start=torch.zeros(()))
    return bool(total.isfinite()) or all(bool(t.isfinite().all()) for t in tensors)


def mean_loss(module: pl.LightningModule, batches: Sequence[Any]) -> float:
    """Mean training loss over ``batches`` in evaluation mode, without gradient or logging; modes and random state stay.

    Batches count by their number of examples (the length of their first tensor).
    """
    total = examples = 0.0
    with torch.no_grad(), _evaluation(module):
        for index, batch in enumerate(batches):
            outcome: Any = module.training_step(batch, index)
            loss = outcome["loss"] if isinstance(outcome, dict) else outcome
            if loss is None:
                raise ValueError(f"training_step of {type(module).__name__} must return the loss, got None")
            count = len(batch[0])
            total += float(loss) * count
            examples += count
    return total / examples


@contextmanager
def _evaluation(module: pl.LightningModule) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    module.log = module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign,assignment]
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        del module.log, module.log_dict
        for part, training in modes:
            part.training = training
