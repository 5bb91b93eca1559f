"""The height of a module of any kind: its mean training loss on fixed batches, measured without leaving a trace."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn

from .loaders import PROBE_SEED, n_examples
from .user_code import where

LARGE = 1_000  # entries: what a longer list holds is not looked into, only the list itself is put back


def mean_loss(module: pl.LightningModule, batches: Sequence[Any], *, monitor: str | None = None, mode: str = "min") -> float:
    """Mean over ``batches`` of the loss ``training_step`` returns, in evaluation mode, with the same random numbers each time.

    Nothing is changed by it: see ``undisturbed``. With manual optimisation the steps inside ``training_step`` are not taken.
    Batches count by their number of examples; one that ``training_step`` skips by returning None does not count.

    Args:
        module: on its own or inside a fit; inside one, the Trainer's precision applies.
        batches: on the module's device.
        monitor: the name of a metric; where ``training_step`` logs it, its value is taken instead of the loss.
        mode: ``max`` when more of the metric is better: its height is its negative.

    Raises:
        ValueError: when ``training_step`` returns no loss and logs no ``monitor``.
    """
    if module.automatic_optimization:
        try:
            with torch.no_grad():
                return _mean_loss(module, batches, monitor, mode)
        except RuntimeError as error:
            if "grad" not in str(error):
                raise  # else the loss itself holds a derivative, such as a gradient penalty
    with torch.enable_grad():
        return _mean_loss(module, batches, monitor, mode)


def _mean_loss(module: pl.LightningModule, batches: Sequence[Any], monitor: str | None, mode: str) -> float:
    trainer = module._trainer
    step: Any = module.training_step if trainer is None else trainer.strategy.training_step
    with_index = is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2)
    total = examples = 0.0
    outcome: Any = None
    with undisturbed(module) as logged:
        for index, batch in enumerate(batches):
            outcome = step(batch, index) if with_index else step(batch)
            value = outcome.get("loss") if isinstance(outcome, dict) else outcome
            if monitor in logged:
                metric = logged.pop(monitor)
                value = float(metric.compute() if hasattr(metric, "compute") else metric) * (-1 if mode == "max" else 1)
            if value is None:
                continue
            count = n_examples(batch)
            total += float(value) * count
            examples += count
    if not examples:
        got = f"a dict without 'loss' ({', '.join(map(str, outcome))})" if isinstance(outcome, dict) else "None"
        names = f"; or name a metric it logs with monitor: {', '.join(sorted(logged))}" if logged else ""
        raise ValueError(f"{where(module, 'training_step')} must return the loss, got {got}{names}")
    return total / examples


@contextmanager
def undisturbed(module: pl.LightningModule) -> Iterator[dict[str, Any]]:
    """Evaluation mode in which ``training_step`` changes nothing that lasts; gives what it logs, by name.

    Put back afterwards: weights, buffers, gradients, metrics and every other attribute of the module and its parts (not the
    inside of objects that are neither modules, tensors nor collections), random numbers, the Trainer's wish to stop. Loggers
    hear nothing, optimizers and schedulers do not step.
    """
    logged: dict[str, Any] = {}

    def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        logged[name] = value

    def log_dict(dictionary: Any, *args: Any, **kwargs: Any) -> None:
        for name, value in dictionary.items():
            log(name, value)

    trainer, manual = module._trainer, not module.automatic_optimization
    stand_ins: dict[str, Any] = {"log": log, "log_dict": log_dict, "print": _nothing}
    if manual:
        stand_ins |= {"manual_backward": _nothing, "clip_gradients": _nothing}
    if manual and trainer is not None:
        optimizers, schedulers = _still(module.optimizers()), _still(module.lr_schedulers())
        stand_ins |= {"optimizers": lambda *args, **kwargs: optimizers, "lr_schedulers": lambda: schedulers}
    restore = _remember(module, set())
    gradients = [(weight, weight.grad) for weight in module.parameters()]
    try:
        with same_random_numbers(), _silent(trainer):
            vars(module).update(stand_ins)
            module.eval()
            if manual:
                for weight, _ in gradients:
                    weight.grad = None
            yield logged
    finally:
        restore()
        for weight, gradient in gradients:
            weight.grad = gradient


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Random numbers of PyTorch, NumPy and Python start alike inside, and go on outside as if nothing had been drawn.

    A twentieth of the time of Lightning's ``isolate_rng`` and ``torch.manual_seed``.
    """
    generators = [torch.default_generator, *torch.cuda.default_generators]  # none of CUDA before its first use
    states = [generator.get_state() for generator in generators]
    of_numpy, of_python = np.random.get_state(), random.getstate()
    for generator in generators:
        generator.manual_seed(PROBE_SEED)
    np.random.seed(PROBE_SEED)
    random.seed(PROBE_SEED)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        np.random.set_state(of_numpy)
        random.setstate(of_python)


@contextmanager
def _silent(trainer: pl.Trainer | None) -> Iterator[None]:
    """The Trainer's loggers hear nothing, and what is asked of it is forgotten."""
    if trainer is None:
        yield
        return
    loggers, should_stop = trainer.loggers, trainer.should_stop
    trainer.loggers = [DummyLogger() for _ in loggers]
    try:
        yield
    finally:
        trainer.loggers, trainer.should_stop = loggers, should_stop


class _Still:
    """An optimizer or scheduler that does not step; all else is the one it stands for."""

    def __init__(self, of: Any) -> None:
        self._of = of

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what isinstance asks
        return type(self._of)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)

    def step(self, *args: Any, closure: Any = None, **kwargs: Any) -> Any:
        closure = closure or next(iter(args), None)
        return closure() if callable(closure) else None

    def zero_grad(self, *args: Any, **kwargs: Any) -> None:
        pass


def _still(what: Any) -> Any:
    return [_Still(one) for one in what] if isinstance(what, list) else _Still(what) if what is not None else None


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _remember(value: Any, seen: set[int]) -> Callable[[], None]:
    """A function that puts ``value`` and what it holds back in place as they are now."""
    if id(value) in seen:
        return _nothing
    seen.add(id(value))
    if isinstance(value, Tensor):
        return _remember_tensor(value)
    if isinstance(value, nn.Module):
        value = vars(value)
        parts = [part for name, part in value.items() if name not in _HOOKS]
    else:
        parts = list(value.values() if isinstance(value, dict) else value)
    before = value.copy() if not isinstance(value, tuple) else value
    inner = [_remember(part, seen) for part in parts if isinstance(part, _CHANGEABLE)] if len(parts) <= LARGE else []

    def restore() -> None:
        if isinstance(value, (dict, set)):
            value.clear()
            value.update(before)
        elif not isinstance(value, tuple):
            value.clear()
            value.extend(before)
        for back in inner:
            back()

    return restore


_HOOKS = set(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}  # what PyTorch keeps of every module
_CHANGEABLE = (Tensor, nn.Module, dict, list, tuple, set, deque)


def _remember_tensor(tensor: Tensor) -> Callable[[], None]:
    if tensor.grad_fn is not None or tensor.is_inference():  # of a graph that may still be walked: not to be written to
        return _nothing
    before, needs_gradient = tensor.detach().clone(), tensor.requires_grad

    def restore() -> None:
        if tensor.requires_grad != needs_gradient:
            tensor.requires_grad_(needs_gradient)
        if not torch.equal(tensor, before):
            with torch.no_grad():
                tensor.copy_(before)

    return restore
