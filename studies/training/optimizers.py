"""What the optimizers of a module are set to beside the learning rate, read off them: modules call their arguments anything."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.learning_rate import GROUP_RATES, LearningRate, base_rate
from lightning_modules.loaders import PROBE_SEED
from studies.training.fitting import see_start
from studies.training.fixed import look_at
from studies.training.workload import Workload


def optimizers_of(workload: Workload, learning_rate: float, batch_sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The settings of each parameter group, as plain JSON; of groups that are set alike once.

    By their names in torch, with ``optimizer``, the name of the class, and ``learning_rate_factor``, how many times the
    learning rate the group has, where that is not 1. Empty where they follow the learning rate or the batch size, read at two
    of each, and where the module raises: its runs will say so.
    """
    ends = ((learning_rate, max(batch_sizes)), (learning_rate / 2, min(batch_sizes)))
    with contextlib.suppress(Exception):
        first, second = (_read(workload, *end) for end in ends)
        return first if first == second else []
    return []


def _read(workload: Workload, learning_rate: float, batch_size: int) -> list[dict[str, Any]]:
    built = workload.build(learning_rate=learning_rate, batch_size=batch_size, seed=PROBE_SEED)
    look = _Settings(learning_rate)
    see_start(look, workload, built, batch_size, LearningRate(learning_rate, look_at(workload, batch_size).proportions))
    return [settings for k, settings in enumerate(look.found) if settings not in look.found[:k]]


class _Settings(pl.Callback):
    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.found: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.found = list(_settings(trainer.optimizers, self.learning_rate))


def _settings(optimizers: Iterable[Optimizer], learning_rate: float) -> Iterator[dict[str, Any]]:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            plain = {name: _plain(value) for name, value in group.items() if name not in (*GROUP_RATES, "params")}
            factor = float(f"{base_rate(group) / learning_rate:.6g}")
            more = {} if factor == 1 else {"learning_rate_factor": factor}
            yield {"optimizer": type(optimizer).__name__, **{k: v for k, v in plain.items() if v is not None}, **more}


def _plain(value: Any) -> Any:
    """A number, or several, as JSON holds them; None for all else."""
    if isinstance(value, (tuple, list)):
        found = [_plain(each) for each in value]
        return None if None in found or not found else found
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool):
        return value
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None
