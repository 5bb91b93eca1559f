"""What happened in a run: heights on the probe set, minibatch losses, validation metrics, the first non-finite step."""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_modules.height import Height, Probe
from lightning_modules.loaders import has_size, n_examples
from lightning_modules.run_state import total_batches
from lightning_modules.user_code import where

MAX_POINTS = 200  # heights of a run: enough for any curve on a page, small enough to store as one attribute
POINTS_PER_EPOCH = 4
EPOCHS_OF_STREAM = 10  # for that matter, of a run that is limited by steps alone
PREFIXES = {"val": r"^(val|valid|validation)[_/.-]", "train": r"^(train|training)[_/.-]"}
SUFFIX = re.compile(r"/dataloader_idx_\d+$")  # that Lightning adds where there are several validation loaders


def probe_steps(steps_per_epoch: int, epochs: int, *, most: float = math.inf) -> list[int]:
    """Steps (updates done) at which the height is measured: 0, 1, 2, 4, 8, ..., then evenly to the last, inclusive.

    At least four times an epoch where an epoch has that many steps. A run keeps at most about 200 points, so runs of more
    than 45 epochs or so are measured less often than that. most: steps that a run may take.

    >>> probe_steps(8, 2), probe_steps(8, 100, most=10)
    ([0, 1, 2, 4, 6, 8, 10, 12, 14, 16], [0, 1, 2, 4, 5, 6, 8, 9, 10])
    """
    last = int(min(steps_per_epoch * epochs, most))
    doubling = [0] + [2**k for k in range(last.bit_length()) if 2**k <= last]
    even = min(last, POINTS_PER_EPOCH * math.ceil(last / steps_per_epoch), MAX_POINTS - len(doubling))
    return sorted({*doubling, *(round(last * (i + 1) / even) for i in range(even))})


def metric_name(stage: str, name: str) -> str | None:
    """What a logged metric is called in our tables, or None for one that repeats another.

    ``val_`` or ``train_`` says where it was logged, whatever prefix the module gave it; of a metric that is logged both for a
    step and for the epoch the epoch's is kept, of several validation loaders the first has no suffix.

    >>> metric_name("val", "valid/loss"), metric_name("val", "val_acc_epoch"), metric_name("train", "accuracy")
    ('val_loss', 'val_acc', 'train_accuracy')
    """
    bare = name.removesuffix("/dataloader_idx_0")
    if bare.endswith("_step"):
        return None
    bare = re.sub(PREFIXES[stage], "", bare.removesuffix("_epoch"))
    return f"{stage}_{bare}"


class Record:
    """The facts of one run, filled in the order they happen.

    Step t is the state after t updates: the height at step t and the minibatch loss at step t belong to the same weights, and
    what a batch leaves in weights and buffers belongs to the step after it. An update is a training batch that ended in a step
    of the optimizer, or of several.

    Attributes:
        curves: metric name to list of (step, value); ``height``, ``minibatch_loss``, and every metric the module logs, under
            the name ``metric_name`` gives it. A run that turned non-finite ends its ``height`` with inf at that step.
        nonfinite_at: the first step whose loss, weights (buffers too, such as the averages of batch norm) or height were not
            finite; None if all were.
        step, batches, examples: updates done, batches and examples seen.
        validation_examples: examples of the last validation, 0 when there was none.
        highest_learning_rates: that each parameter group stepped with, of those that there were at the start.
        ended_by: who ended the run before its budget, "" where nobody did or it turned non-finite.
        loss_as_at_start: the last height, with the numbers that the module had at the start in place of those it has at the
            end; None where that is the same.
        steps: at which the height is measured; ``plan`` sets them unless they were given.
    """

    def __init__(self, steps: Iterable[int] | None = None) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {"height": [], "minibatch_loss": []}
        self.nonfinite_at: int | None = None
        self.step = self.batches = self.examples = 0
        self.validation_examples = 0
        self.highest_learning_rates: list[float] = []
        self.ended_by = ""
        self.loss_as_at_start: float | None = None
        self.steps: frozenset[int] = frozenset(steps or ())
        self._given = steps is not None
        self._batches_per_epoch = math.inf
        self._before = (0, 0)  # batches and epochs of loaders that were of another length

    @property
    def epochs(self) -> float:
        """Passes over the training set; of a stream without length the first pass counts as one, however far it came."""
        batches, epochs = self._before
        here = self.batches - batches
        return epochs + here / (self._batches_per_epoch if math.isfinite(self._batches_per_epoch) else max(here, 1))

    @property
    def is_due(self) -> bool:
        """Whether the height is to be measured now."""
        return self.step in self.steps and self.nonfinite_at is None

    def plan(self, batches_per_epoch: float, epochs: int, *, accumulated: int = 1, most: float = math.inf) -> None:
        """Set when to measure.

        batches_per_epoch: inf while it is not known; accumulated: batches an update; most: updates that a run may take.
        """
        self._batches_per_epoch = batches_per_epoch
        if self._given:
            return
        if math.isfinite(batches_per_epoch):
            self.steps = frozenset(probe_steps(math.ceil(batches_per_epoch / accumulated), epochs, most=most))
        elif math.isfinite(most):
            self.steps = frozenset(probe_steps(math.ceil(most / EPOCHS_OF_STREAM), EPOCHS_OF_STREAM, most=most))
        else:
            self.steps = frozenset({0, *(2**k for k in range(40))})

    def plan_again(self, batches_per_epoch: int, epoch: int, epochs: int, *, accumulated: int = 1) -> None:
        """Set when to measure from here on, at the start of ``epoch``, where the loader is of another length than before."""
        self._before, self._batches_per_epoch = (self.batches, epoch), batches_per_epoch
        if not self._given:
            further = probe_steps(math.ceil(batches_per_epoch / accumulated), epochs - epoch)
            self.steps = frozenset({*(step for step in self.steps if step <= self.step), *(self.step + s for s in further)})

    def stepped_with(self, learning_rates: Sequence[float]) -> None:
        """Learning rates of a step, of the parameter groups that there were at the start."""
        self.highest_learning_rates = [*map(max, self.highest_learning_rates, learning_rates)]

    def saw(self, examples: int, loss: float | None) -> None:
        """A training batch was seen; loss: None when the module skipped it."""
        self.batches += 1
        self.examples += examples
        if loss is None or (self.step not in self.steps and math.isfinite(loss)):
            return
        points = self.curves["minibatch_loss"]
        if not points or points[-1][0] < self.step:  # of several batches accumulated into one update the first
            points.append((self.step, loss))
        if not math.isfinite(loss):
            self._stop(self.step)

    def stepped(self, finite: bool) -> None:
        """An update was done; finite: whether all weights are."""
        self.step += 1
        self.looked(finite)

    def looked(self, finite: bool) -> None:
        """The weights were looked at; finite: whether all are."""
        if not finite:
            self._stop(self.step)

    def measured(self, height: float) -> None:
        """The height of the weights as they are."""
        if math.isfinite(height):
            self.curves["height"].append((self.step, height))
        else:
            self._stop(self.step)

    def keep(self, stage: str, name: str, value: float) -> None:
        """A metric logged in ``val`` or ``train``; a run that is no longer finite has none (its accuracy would be a number)."""
        ours = metric_name(stage, name)
        if ours is not None and self.nonfinite_at is None:
            points = self.curves.setdefault(ours, [])
            if points and points[-1][0] == self.step:  # of loss and loss_epoch the latter
                points.pop()
            points.append((self.step, value))

    def _stop(self, step: int) -> None:
        if self.nonfinite_at is None:
            self.nonfinite_at = step
            self.curves["height"] = [point for point in self.curves["height"] if point[0] < step] + [(step, math.inf)]


class Recorder(pl.Callback):
    """Fills the ``record`` of one run and stops the run at its first non-finite loss, height or weight.

    A gradient that is not finite shows in the weights after its update; one whose update is left out, as mixed precision does
    to find its scale, is no divergence.

    Args:
        probe: the fixed training examples the height is measured on, as batches of the module's own kind, and how.
        steps: the steps at which to measure, ascending, starting with 0; ``probe_steps`` of the fit unless given.
        batch_size: examples the first batch must have, if it must; the last of an epoch may be shorter.
        monitor, mode: see ``height.mean_loss``.
    """

    def __init__(
        self,
        probe: Probe | Sequence[Any],
        *,
        steps: Iterable[int] | None = None,
        batch_size: int | None = None,
        monitor: str | None = None,
        mode: str = "min",
    ) -> None:
        self.record = Record(steps)
        self._height = Height(probe, monitor=monitor, mode=mode)
        self._batch_size = batch_size
        self._updates = 0  # of all optimizers
        self._any_loss = False  # since the last update
        self._n_batches = math.inf  # of an epoch
        self._rates: list[float] = []  # of the last step
        self._optimizers: list[tuple[Any, int]] = []  # and how many groups each had at the start
        self._watched: list[tuple[nn.Module, str]] = []
        self._validation_names: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the height before the first step; a run that goes on from a checkpoint has done so."""
        self._height.begin(trainer, pl_module)
        if not self.record.curves["height"]:
            make_lazy_layers(pl_module, self._height)
            self.record.highest_learning_rates = [0.0 for optimizer in trainer.optimizers for _ in optimizer.param_groups]
            self._plan(trainer, trainer.num_training_batches)
            self._measure(trainer, pl_module)
        for optimizer in trainer.optimizers:
            if isinstance(optimizer, Optimizer):
                optimizer.register_step_post_hook(self._stepped)
        self._optimizers = [(optimizer, len(optimizer.param_groups)) for optimizer in trainer.optimizers]
        self._watched = to_watch(pl_module)

    def _stepped(self, *_: Any) -> None:
        """An optimizer stepped: with the learning rates that its groups have now, whoever set them."""
        rates = [float(group["lr"]) for optimizer, count in self._optimizers for group in optimizer.param_groups[:count]]
        if rates != self._rates:
            self._rates = rates
            self.record.stepped_with(rates)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at what hooks since the last batch left of the weights, and check the size of the first batch."""
        self._look(trainer)
        if self.record.batches == 0 and self._batch_size is not None and not has_size(batch, self._batch_size):
            owner = trainer.fit_loop._data_source.instance
            raise ValueError(_wrong_size(self._batch_size, n_examples(batch), trainer.num_training_batches, owner))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the minibatch loss of the step just done, then look at the weights and the height after it."""
        whole = self._batch_size is not None and has_size(batch, self._batch_size)  # sequences may come time first
        loss = None if (outputs or {}).get("loss") is None else float(outputs["loss"]) * trainer.accumulate_grad_batches
        self.record.saw((whole and self._batch_size) or n_examples(batch), loss)
        self._any_loss |= loss is not None or not pl_module.automatic_optimization
        updated, self._updates = trainer.global_step > self._updates, trainer.global_step
        if updated:  # else gradients accumulate
            moved, self._any_loss = self._any_loss, False
            if moved:  # else the module skipped every batch of this update
                self.record.stepped(self._is_finite())
                if self.record.is_due:
                    self._measure(trainer, pl_module)
        trainer.should_stop |= self.record.nonfinite_at is not None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the examples of each validation anew, and listen which metrics it logs."""
        self._look(trainer)
        self.record.validation_examples = 0
        log = pl_module.log

        def listen(name: str, *args: Any, **kwargs: Any) -> None:
            self._validation_names |= {name, f"{name}_step", f"{name}_epoch"} if kwargs.get("on_step") else {name}
            log(name, *args, **kwargs)

        pl_module.log = listen  # type: ignore[method-assign]

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
        if self.record.nonfinite_at is None:
            self.record.validation_examples += n_examples(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what the module logged."""
        vars(pl_module).pop("log", None)
        if not trainer.sanity_checking:
            self._keep(trainer, "val")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the training metrics of the epoch before: only now are all of its means known."""
        if self.record.batches:
            self._keep(trainer, "train")
        if self.record.batches and math.isfinite(self._n_batches) and trainer.num_training_batches != self._n_batches:
            epochs, accumulated = trainer.max_epochs or 1, trainer.accumulate_grad_batches
            self._n_batches = trainer.num_training_batches
            self.record.plan_again(int(self._n_batches), trainer.current_epoch, epochs, accumulated=accumulated)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Of a stream the length is known after its first epoch."""
        if math.isinf(trainer.num_training_batches) and trainer.current_epoch == 0:
            self._plan(trainer, self.record.batches)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the last height where the run ended early, and keep the last training metrics."""
        self._look(trainer)
        self._keep(trainer, "train")
        if self.record.nonfinite_at is not None:
            return
        if self.record.curves["height"][-1][0] < self.record.step:
            self._measure(trainer, pl_module)
        self.record.ended_by = _ended_by(trainer, self.record.batches)
        at_start, (_, last) = self._height.as_at_start(pl_module), self.record.curves["height"][-1]
        if at_start is not None and not math.isclose(at_start, last, rel_tol=1e-5):
            self.record.loss_as_at_start = at_start

    def progress(self) -> dict[str, Any]:
        """How far it is, in types that are safe to read back; between two epochs."""
        record = vars(self.record) | {"steps": sorted(self.record.steps)}
        return {"record": record, "updates": self._updates, "validation_names": sorted(self._validation_names)}

    def go_on_from(self, progress: Mapping[str, Any]) -> None:
        """Take up what ``progress`` gave."""
        vars(self.record).update(progress["record"], steps=frozenset(progress["record"]["steps"]))
        self._updates, self._validation_names = progress["updates"], set(progress["validation_names"])

    def _plan(self, trainer: pl.Trainer, batches_per_epoch: float) -> None:
        self._n_batches = trainer.num_training_batches
        most = math.inf if trainer.max_steps < 0 else trainer.max_steps
        epochs, accumulated = trainer.max_epochs or 1, trainer.accumulate_grad_batches
        self.record.plan(batches_per_epoch, epochs if epochs > 0 else MAX_POINTS, accumulated=accumulated, most=most)

    def _keep(self, trainer: pl.Trainer, stage: str) -> None:
        metrics = trainer.callback_metrics
        validation = {name for name in metrics if SUFFIX.sub("", name) in self._validation_names}
        for name in sorted(validation if stage == "val" else set(metrics) - validation):
            self.record.keep(stage, name, float(metrics[name]))

    def _look(self, trainer: pl.Trainer) -> None:
        self.record.looked(self._is_finite())
        trainer.should_stop |= self.record.nonfinite_at is not None

    def _is_finite(self) -> bool:
        found = (getattr(part, name, None) for part, name in self._watched)
        return all_finite([each for each in found if isinstance(each, torch.Tensor)])

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.record.measured(self._height(pl_module))
        trainer.should_stop |= self.record.nonfinite_at is not None


def make_lazy_layers(module: pl.LightningModule, height: Height) -> None:
    """Have layers that are made at first use made, with weights that are drawn from the random numbers of the run."""
    lazy = [part for part in module.modules() if any(is_lazy(weight) for weight in part.parameters(recurse=False))]
    if lazy:
        height(module)
        for part in lazy:
            part.reset_parameters()  # type: ignore[operator]  # measuring drew the same for every seed


def _ended_by(trainer: pl.Trainer, batches: int) -> str:
    """Who ended a run before its budget, "" when it came to its end."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return ""
    done: Any = trainer.fit_loop.epoch_progress.current
    of_epochs = (trainer.max_epochs or 1) > done.processed
    if not of_epochs and not (trainer.should_stop and batches < total_batches(trainer) < math.inf):
        return ""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # which a connector of Lightning's sets
    for callback in callbacks:
        if getattr(callback, "stopped_epoch", 0) or getattr(callback, "stopping_reason_message", None):
            return type(callback).__name__
        if hasattr(callback, "time_remaining") and callback.time_remaining() == 0:
            return "max_time"
    return "should_stop"


def _wrong_size(wanted: int, found: int, batches: float, owner: Any) -> str:
    if batches == 1 and found < wanted:
        return f"batch_size must be at most the training set of {found} examples, got {wanted}"
    return (
        f"batch_size has no effect: {where(owner, 'train_dataloader')} gives batches of {found} examples when asked for"
        f" {wanted}; let it read an attribute batch_size, return a torch DataLoader, or study batch size {found} alone"
    )


def to_watch(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Where in a module is what must stay finite: weights that are trained, and all else that is finite now, as no mask is.

    Places and not tensors: a module may put another tensor there.
    """
    return [
        (part, name)
        for part in module.modules()
        for name, held in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
        if _holds_numbers(held) and (held.requires_grad or all_finite([held]))
    ]


def _holds_numbers(held: torch.Tensor) -> bool:
    """Whether a tensor has values, that are no integers and can be added up."""
    return not is_lazy(held) and held.layout is torch.strided and (held.is_floating_point() or held.is_complex())


@torch.no_grad()
def all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether every number is finite: their sum tells in a tenth of the time, and only a sum that is not is looked into."""
    # cmath: of one number isfinite takes PyTorch longer than all of the sums of a small network
    if not tensors:
        return True
    total = torch.stack([t.sum().to(tensors[0].device) for t in tensors]).sum()
    return cmath.isfinite(total.item()) or all(bool(t.isfinite().all()) for t in tensors)
