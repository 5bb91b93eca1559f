"""The height of a module of any kind: its mean training loss on fixed batches, measured without leaving a trace."""

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torchmetrics import Metric

from lightning_modules.loaders import n_examples, tensors
from lightning_modules.run_state import Carried, Slot, as_at_end, numbers, of_class, put_numbers, start_epoch, total_batches
from lightning_modules.undisturbed import same_random_numbers, undisturbed
from lightning_modules.user_code import where

T = TypeVar("T")


@dataclass(frozen=True)
class Probe:
    """The batches on which heights are measured, and how; ``probe.choose_probe`` finds out what a module needs.

    batches: as ``training_step`` takes them, on the CPU.
    training: in training mode instead of evaluation mode.
    at_end: with the epoch and step of the end of the run, for a loss that depends on them.
    hooks: after what the module does at the start of an epoch and of a batch, for a loss that depends on that.
    counters: numbers of the module, and by how much each grows with a batch, for a loss that depends on them.
    carried: attributes and buffers that hold what is carried from batch to batch.
    """

    batches: Sequence[Any]
    training: bool = False
    at_end: bool = False
    hooks: bool = False
    counters: Mapping[Slot, float] = field(default_factory=dict)
    carried: tuple[Slot, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether heights are a function of weights, buffers, epoch and step alone, in evaluation mode."""
        return not (self.training or self.hooks or self.counters or self.carried)


class Height:
    """Measures the height of one module in one fit, each time in the same way.

    Args:
        probe: the batches and how to measure on them, or batches alone.
        monitor, mode: see ``mean_loss``.
    """

    def __init__(self, probe: Probe | Sequence[Any], *, monitor: str | None = None, mode: str = "min") -> None:
        self.probe = probe if isinstance(probe, Probe) else Probe(probe)
        self._batches, self._monitor, self._mode = self.probe.batches, monitor, mode
        self._start: Carried | None = None
        self._numbers: dict[Slot, float] = {}

    def begin(self, trainer: pl.Trainer, module: pl.LightningModule, batches: Sequence[Any] | None = None) -> None:
        """Move the batches to the module's device, and remember the state and the numbers it starts with.

        batches: to measure on instead of the probe's, on the device already.
        """
        with same_random_numbers():  # the module's transfer hooks may draw augmentations: the same ones in every run
            self._batches = batches or [to_device(trainer, module, batch) for batch in self.probe.batches]
        self._start = Carried(module, self.probe.carried) if self.probe.carried else None
        self._numbers = numbers(module)

    def __call__(self, module: pl.LightningModule) -> float:
        """The height of the weights as they are."""
        return self._measure(module, {})

    def as_at_start(self, module: pl.LightningModule) -> float | None:
        """The same with the numbers that the module started with, None where they are what they were.

        A loss whose weight, margin or temperature was changed during the run, by whatever means, is another then.
        """
        now = numbers(module)
        start = {slot: self._numbers.get(slot, of_class(module, slot)) for slot in now}
        moved = {slot: value for slot, value in start.items() if value is not None and now[slot] != value}
        return self._measure(module, moved) if moved else None

    def _measure(self, module: pl.LightningModule, moved: Mapping[Slot, float]) -> float:
        probe, trainer = self.probe, module._trainer

        def begin() -> None:
            put_numbers(module, moved)
            if probe.counters and trainer is not None:
                at_end = total_batches(trainer)
                put_numbers(module, {slot: self._numbers[slot] + each * at_end for slot, each in probe.counters.items()})
            if probe.hooks:
                start_epoch(module, self._batches[0])
            if self._start is not None:
                self._start.put(module)

        how: dict[str, Any] = {"monitor": self._monitor, "mode": self._mode, "training": probe.training, "begin": begin}
        with as_at_end(trainer) if probe.at_end and trainer is not None else contextlib.nullcontext():
            return mean_loss(module, self._batches, **how)


def mean_loss(
    module: pl.LightningModule,
    batches: Sequence[Any],
    *,
    monitor: str | None = None,
    mode: str = "min",
    training: bool = False,
    begin: Callable[[], None] | None = None,
) -> float:
    """Mean over ``batches`` of the loss ``training_step`` returns, in evaluation mode, with the same random numbers each time.

    Nothing is changed by it, the batches included: see ``undisturbed``. With manual optimisation the steps inside
    ``training_step`` are not taken. Batches count by their number of examples; one that ``training_step`` skips by returning
    None does not count.

    Args:
        module: on its own or inside a fit; inside one, the Trainer's precision applies.
        batches: on the module's device.
        monitor: the name of a metric; where ``training_step`` logs it, its value is taken instead of the loss.
        mode: ``max`` when more of the metric is better: its height is its negative.
        training: leave the module in training mode.
        begin: called before the first batch; what it changes in the module is put back too.

    Raises:
        ValueError: when ``training_step`` returns no loss and logs no ``monitor``.
    """
    return without_gradient(module, lambda: _mean_loss(module, batches, monitor, mode, training, begin))


def without_gradient(module: pl.LightningModule, evaluate: Callable[[], T]) -> T:
    """What a function that calls ``training_step`` gives; with gradients only where it cannot do without."""
    if module.automatic_optimization:
        try:
            with torch.no_grad():
                return evaluate()
        except RuntimeError as error:
            if "grad" not in str(error):
                raise  # else the loss itself holds a derivative, such as a gradient penalty
    with torch.enable_grad():
        return evaluate()


def _mean_loss(
    module: pl.LightningModule,
    batches: Sequence[Any],
    monitor: str | None,
    mode: str,
    training: bool,
    begin: Callable[[], None] | None,
) -> float:
    step = stepper(module)
    total = examples = 0.0
    outcome: Any = None
    with undisturbed(module, training=training) as logged:
        if begin is not None:
            begin()
        for index, batch in enumerate(batches):
            for part in module.modules() if monitor is not None else ():
                if isinstance(part, Metric):
                    part.reset()  # it holds the batches of the epoch so far
            outcome = step(batch, index)
            value = outcome.get("loss") if isinstance(outcome, Mapping) else outcome
            if monitor in logged:
                metric = logged.pop(monitor)
                value = _number(metric.compute() if isinstance(metric, Metric) else metric) * (-1 if mode == "max" else 1)
            if value is None:
                continue
            count = n_examples(batch)
            total += _number(value) * count
            examples += count
    if not examples:
        got = f"a dict without 'loss' ({', '.join(map(str, outcome))})" if isinstance(outcome, Mapping) else "None"
        names = f"; or name a metric it logs with monitor: {', '.join(sorted(logged))}" if logged else ""
        raise ValueError(f"{where(module, 'training_step')} must return the loss, got {got}{names}")
    return total / examples


def stepper(module: pl.LightningModule) -> Callable[[Any, int], Any]:
    """``training_step`` as a fit calls it, on a copy of each batch: it may take labels out of it, or scale inputs in place."""
    trainer = module._trainer
    step: Any = module.training_step if trainer is None else trainer.strategy.training_step
    with_index = is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2)

    def take(batch: Any, index: int) -> Any:
        given = _copied(batch)
        return step(given, index) if with_index else step(given)

    return take


def _copied(batch: Any) -> Any:
    try:
        return copy.deepcopy(batch, {id(tensor): tensor.detach().clone() for tensor in tensors(batch)})
    except Exception:  # whatever a class of the user's says to being copied: its collections are copied
        return apply_to_collection(batch, Tensor, lambda tensor: tensor.detach().clone())


def to_device(trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> Any:
    """A batch as the training loop would hand it to ``training_step``."""
    batch = module._on_before_batch_transfer(trainer.precision_plugin.convert_input(batch), dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def _number(value: Any) -> float:
    return float(value.detach() if isinstance(value, Tensor) else value)
