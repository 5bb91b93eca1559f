"""Where to begin to look for learning rates when nobody has said so: by the height after one step, for the price of a few."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from lightning_modules.height import Height
from lightning_modules.learning_rate import LearningRate
from lightning_modules.loaders import n_examples
from lightning_modules.recorder import make_lazy_layers
from reports.judging.next_range import ABOVE, BELOW
from reports.style import format_number
from studies.config import LIMITS, RANGE
from studies.training.fitting import ASIDE, fit
from studies.training.fixed import look_at
from studies.training.workload import Workload

STEPS = 4  # first steps, each of other weights and another batch
EXAMPLES = 256  # on which heights are measured, roughly
A_DECADE = 2  # learning rates at which they are
FAR = 1000.0  # times: a module's own learning rate that is further away says nothing
ONE_STEP = ASIDE | {"max_steps": 1, "limit_train_batches": 1, "accumulate_grad_batches": 1}


def find_bracket(workload: Workload, batch_size: int, seed: int) -> tuple[float, float, str]:
    """Lowest and highest learning rate between which the edges lie, most likely, and one sentence why.

    A first step is as long as the learning rate says, for any optimizer that works element by element. So one step gives the
    way, and the height is measured along it: ``next_range.BELOW`` below to ``ABOVE`` above where its mean over ``STEPS`` steps
    is lowest, times 1 - momentum, which held the edges in 94 to 100 % of 65 cells without batch norm. What the module has
    today is inside. The ends are powers of ten with whole or half exponents.
    """
    fixed = look_at(workload, batch_size)
    first, last = (math.log10(limit) for limit in LIMITS)
    rates = 10 ** np.arange(first, last, 1 / A_DECADE)
    measured = [_Along(workload, batch_size, rates) for _ in range(STEPS)]
    for index, along in enumerate(measured):
        built = workload.build(learning_rate=1.0, batch_size=batch_size, seed=seed + index)
        callbacks = [LearningRate(1.0, fixed.proportions, constant=True), along]
        fit(workload, built, seed=seed + index, callbacks=callbacks, replaced=ONE_STEP)
    heights = np.mean([along.heights for along in measured], axis=0)
    start = float(np.mean([along.start for along in measured]))
    momentum = max(along.momentum for along in measured)
    place = int(np.argmin(heights))
    if heights[place] < start:
        low, high = (float(rates[place]) * (1 - momentum) * factor for factor in (1 / BELOW, ABOVE))
        why = f"a first step lowers the loss most at {format_number(rates[place])}"
        why += f", and momentum is {format_number(momentum)}" if momentum else ""
    else:
        low, high = RANGE
        why = "no first step lowers the loss"
    if fixed.own and low / FAR <= fixed.own <= high * FAR:
        low, high = min(low, fixed.own), max(high, fixed.own)
        why += f"; the module has {format_number(fixed.own)}"
    low = 10 ** (math.floor(2 * math.log10(low) + 1e-6) / 2)
    high = 10 ** (math.ceil(2 * math.log10(high) - 1e-6) / 2)
    return float(f"{max(low, LIMITS[0]):.6g}"), float(f"{min(high, LIMITS[1]):.6g}"), why


class _Along(pl.Callback):
    """Takes a step and measures the height along its way: at each of ``rates`` times as far as with learning rate 1.

    start, heights: before it, and along it, shape (n_rates,), inf where they are not finite. momentum: of the optimizers.
    """

    def __init__(self, workload: Workload, batch_size: int, rates: Any) -> None:
        probe = look_at(workload, batch_size).probe
        seen = itertools.accumulate((n_examples(batch) for batch in probe.batches), initial=0)
        few = [batch for batch, before in zip(probe.batches, seen, strict=False) if before < EXAMPLES]
        self._height = Height(replace(probe, batches=few), monitor=workload.monitor, mode=workload.mode)
        self._rates, self._before = rates, list[torch.Tensor]()
        self.start, self.momentum = math.nan, 0.0
        self.heights = np.full(len(rates), math.inf)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._height.begin(trainer, pl_module)
        make_lazy_layers(pl_module, self._height)
        self.start = self._height(pl_module)
        self._before = [weight.detach().clone() for weight in pl_module.parameters()]
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self.momentum = max((float(group.get("momentum") or 0.0) for group in groups), default=0.0)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ways = [weight - before for weight, before in zip(pl_module.parameters(), self._before, strict=True)]
        for index, rate in enumerate(self._rates):
            for weight, before, way in zip(pl_module.parameters(), self._before, ways, strict=True):
                weight.copy_(before + float(rate) * way)
            height = self._height(pl_module)
            if not math.isfinite(height):
                return
            self.heights[index] = height
