"""What happens in a run, watched: heights on the probe set, minibatch losses, validation metrics, the first non-finite step."""

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
from lightning_modules.record import MAX_POINTS, Record
from lightning_modules.run_state import total_batches
from lightning_modules.user_code import where

SUFFIX = re.compile(r"/dataloader_idx_\d+$")  # that Lightning adds where there are several validation loaders


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
        trainer.should_stop |= self.record.ended

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
        self.record.ended_by = "" if self.record.was_cut else _ended_by(trainer, self.record.batches)
        at_start, (_, last) = self._height.as_at_start(pl_module), self.record.curves["height"][-1]
        if at_start is not None and not math.isclose(at_start, last, rel_tol=1e-5):
            self.record.loss_as_at_start = at_start

    def progress(self) -> dict[str, Any]:
        """How far it is, in types that are safe to read back; between two epochs."""
        record = vars(self.record) | {"steps": sorted(self.record.steps)}
        record.pop("is_over", None)
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
        trainer.should_stop |= self.record.ended

    def _is_finite(self) -> bool:
        found = (getattr(part, name, None) for part, name in self._watched)
        return all_finite([each for each in found if isinstance(each, torch.Tensor)])

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.record.measured(self._height(pl_module))
        trainer.should_stop |= self.record.ended


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
