"""A few batches before any trial is spent: what cannot be studied is said in one sentence that names the class and the line."""

import functools
import math
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.height import Height
from lightning_modules.learning_rate import LearningRate
from lightning_modules.probe import first_few
from lightning_modules.record import metric_name
from lightning_modules.recorder import Recorder, make_lazy_layers
from lightning_modules.user_code import is_ours, last_line_of, where
from studies.errors import BadInput
from studies.training.fitting import ASIDE, fit
from studies.training.fixed import look_at
from studies.training.schedule import check_schedule
from studies.training.trainers import build_trainer, early_stopping, refuse_finders
from studies.training.workload import Workload

LOOKED = 16  # batches after which one without a gradient, or that is skipped, is no odd one any more
A_FEW = ASIDE | {"limit_train_batches": LOOKED, "limit_val_batches": 1, "accumulate_grad_batches": 1, "max_steps": -1}
NOT_A_LOSS = (
    "a metric such as accuracy is not a loss: it cannot be differentiated, so SGD would have a step of size zero;"
    " return a differentiable loss"
)
HINTS = {  # PyTorch's complaints, and what they mean to the user
    r"Target -?\d+ is out of bounds": "labels must be from 0 to the number of classes less 1",
    r"index out of range in self": "an embedding was asked for an index it does not have",
    r"does not require grad": NOT_A_LOSS,
    r"same device|not on the expected device": "register_buffer makes Lightning move a tensor that is no parameter",
    r"out of memory|can't allocate memory": "a smaller batch size needs less",
}


def preflight(workload: Workload, *, learning_rates: Sequence[float], batch_sizes: Sequence[int], seed: int) -> list[str]:
    """Train a few batches of the largest size at two learning rates from the middle of the range, and of the smallest size.

    Each time until a step moved the weights: one batch as a rule, ``LOOKED`` at most.

    Returns what is to be known of how the module is studied, a sentence each.

    Raises ValueError for whatever would spoil every run of the study: no differentiable loss, weights that do not move, a
    learning rate, schedule or batch size that does not follow, a metric to monitor that is not logged, and what the user's
    code raises.
    """
    replaced = {name: value for name, value in workload.trainer.items() if name in A_FEW and name != "logger"}
    build_trainer(replaced, epochs=1)  # which a few batches are tried without
    rate = math.sqrt(min(learning_rates) * max(learning_rates))
    largest, smallest = max(batch_sizes), min(batch_sizes)
    with _in_one_sentence():
        model = workload.build(learning_rate=None, batch_size=largest, seed=seed).model
        if "dataloader_iter" in signature(model.training_step).parameters:
            place = where(model, "training_step")
            raise BadInput(f"{place} must take one batch at a time, got dataloader_iter: heights are measured on batches")
        own: Any = model.configure_callbacks()
        refuse_finders(own)
        stopping = [*early_stopping(workload.trainer.get("callbacks")), *early_stopping(own)]
        fixed = look_at(workload, largest)
    moved = _try(workload, rate, largest, seed)
    if all(map(torch.equal, moved, _try(workload, rate / 2, largest, seed))):
        name = workload.model.made.__name__ if workload.model.made else "the module"
        raise BadInput(
            f"learning_rate has no effect: a step of {name} is the same at {rate:.3g} and {rate / 2:.3g};"
            " name the attribute that holds it with learning_rate_name"
        )
    if smallest != largest:
        _try(workload, rate, smallest, seed)
    with _in_one_sentence():
        failing, said = check_schedule(workload, learning_rates, batch_sizes)
    return [*fixed.remarks, *said, *_remarks(stopping, failing)]


def _remarks(stopping: Sequence[str], failing: Mapping[int, str]) -> Iterator[str]:
    for stops in stopping:
        yield (
            f"{stops} may end runs before the budget: such a run makes no floor, and is judged by where it ended; leave it out,"
            " or give it more patience, to see where runs end"
        )
    for size, why in failing.items():
        yield f"runs at batch size {size} fail: {why}"


def _try(workload: Workload, rate: float, batch_size: int, seed: int) -> list[Tensor]:
    """The weights after a step, on the CPU."""
    with _in_one_sentence():
        fixed = look_at(workload, batch_size)
        built = workload.build(learning_rate=rate, batch_size=batch_size, seed=seed)
        probe = replace(fixed.probe, batches=first_few(fixed.probe.batches))
        told: dict[str, Any] = {"monitor": workload.monitor, "mode": workload.mode}
        inspect = _Inspect(Height(probe, **told))
        recorder = Recorder(probe, steps=[0], batch_size=batch_size if fixed.checks_size else None, **told)
        callbacks = [LearningRate(rate, fixed.proportions, constant=True), inspect, recorder]
        fit(workload, built, seed=seed, callbacks=callbacks, replaced=A_FEW)
        inspect.conclude(built.model)
        if workload.monitor is not None:
            _check_monitor(workload.monitor, inspect.logged, set(recorder.record.curves), built.model)
    return inspect.after


def _check_monitor(monitor: str, logged: set[str], kept: set[str], model: pl.LightningModule) -> None:
    if monitor not in logged and metric_name("val", monitor) not in kept:
        names = ", ".join(sorted(logged | {name for name in kept if name.startswith("val_")})) or "nothing"
        raise BadInput(f"monitor must be a metric that {type(model).__name__} logs ({names}), got {monitor!r}")


class _Inspect(pl.Callback):
    """Looks at what ``training_step`` returns and at the weights before and after a step, and ends the fit when they moved."""

    def __init__(self, height: Height) -> None:
        self._height = height
        self._returned = False
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []
        self.logged: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.training_step = _inspected(pl_module)  # type: ignore[method-assign]
        self._height.begin(trainer, pl_module)
        make_lazy_layers(pl_module, self._height)
        trainable = [weight for weight in pl_module.parameters() if weight.requires_grad]
        if not trainable:
            n_weights = len(list(pl_module.parameters()))
            raise BadInput(f"{type(pl_module).__name__} has nothing to train: none of its {n_weights} parameters requires_grad")
        held = {id(w) for optimizer in trainer.optimizers for group in optimizer.param_groups for w in group["params"]}
        if not any(id(weight) in held for weight in trainable):
            place = where(pl_module, "configure_optimizers")
            raise BadInput(f"{place} must give an optimizer the parameters of the module, it gives none of them")
        self.before = _weights(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.logged |= {name.removesuffix("_step") for name in trainer.callback_metrics}
        self.after = _weights(pl_module)
        self._returned |= not pl_module.automatic_optimization or (outputs or {}).get("loss") is not None
        trainer.should_stop |= not all(map(torch.equal, self.before, self.after))

    def conclude(self, module: pl.LightningModule) -> None:
        """Raise ValueError when the step moved nothing."""
        if not self._returned:
            raise BadInput(f"{where(module, 'training_step')} must return the loss, got None in {LOOKED} batches")
        if all(map(torch.equal, self.before, self.after)):
            raise BadInput(
                f"no weight of {type(module).__name__} moves in a step: {where(module, 'training_step')} gives a gradient of"
                " zero, or the optimizer does not step"
            )


def _weights(module: pl.LightningModule) -> list[Tensor]:
    return [weight.detach().cpu().clone() for weight in module.parameters()]


def _inspected(module: pl.LightningModule) -> Callable[..., Any]:
    training_step = module.training_step
    place = where(module, "training_step")

    @functools.wraps(training_step)
    def inspected(*args: Any, **kwargs: Any) -> Any:
        outcome: Any = training_step(*args, **kwargs)
        loss = outcome.get("loss") if isinstance(outcome, dict) else outcome
        complaint = _complaint(loss, untrained=module.global_step == 0, automatic=module.automatic_optimization)
        if complaint:
            raise BadInput(f"{place} returned {complaint}")
        return outcome

    return inspected


def _complaint(loss: Any, *, untrained: bool, automatic: bool) -> str:
    """What is wrong with a loss, "" if nothing."""
    if loss is None:  # a batch that is skipped
        return ""
    if not isinstance(loss, Tensor):
        return f"{type(loss).__name__} {loss!r:.50}: return the loss as a tensor, before .item() or float()"
    if loss.numel() != 1:
        return f"a tensor of shape {tuple(loss.shape)}: return one number, such as its mean"
    if loss.is_complex():
        return f"a complex number ({loss.dtype}): return a real one, such as its absolute value"
    if not loss.is_floating_point() or (automatic and torch.is_grad_enabled() and not loss.requires_grad):
        return f"a number without gradient ({loss.dtype}): {NOT_A_LOSS}"
    if untrained and not torch.isfinite(loss.detach()):
        return f"{float(loss)} before the first step: the loss of the untrained module must be finite"
    return ""


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Turn whatever the user's code raises into one ValueError that says where."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, BadInput):
            raise
        ours = is_ours(frames[-1].filename)
        if ours and isinstance(error, (ValueError, OSError)):  # what one of our modules or data sets refuses, or misses
            raise BadInput(str(error)) from error
        if ours and not isinstance(error, RuntimeError):  # RuntimeError: the user's sys.exit
            raise
        message = " ".join(str(error).split())
        hint = next((f"; {hint}" for pattern, hint in HINTS.items() if re.search(pattern, message)), "")
        place = last_line_of(error.__traceback__) or f"{frames[-1].name} ({frames[-1].filename}:{frames[-1].lineno})"
        raise BadInput(f"one batch was tried and {place} failed: {type(error).__name__}: {message:.400}{hint}") from error
