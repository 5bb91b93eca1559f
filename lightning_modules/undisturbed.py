"""Evaluate a module of any kind in the middle of its training without leaving a trace."""

import random
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_modules.loaders import PROBE_SEED
from lightning_modules.user_code import is_users_class

NOT_PLAIN = ("Module", "Dataset", "Sampler", "Callback", "LightningDataModule")  # whose inside is theirs alone
LARGE = 100_000  # entries: what a longer list holds is not looked into, only the list itself is put back


@contextmanager
def undisturbed(module: pl.LightningModule, *, training: bool = False) -> Iterator[dict[str, Any]]:
    """Evaluation mode in which ``training_step`` changes nothing that lasts; gives what it logs, by name.

    training: leave the modes of the module and its parts as they are in training.

    Put back afterwards: weights, buffers, gradients, metrics and every other attribute of the module and its parts, the inside
    of modules, arrays, collections, generators of random numbers and objects of the user's own classes, but not of data sets
    and other objects; the optimizers' groups, random numbers, the Trainer's wish to stop. Loggers hear nothing, optimizers and
    schedulers do not step.
    """
    logged: dict[str, Any] = {}

    def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        logged[name] = value

    def log_dict(dictionary: Any, *args: Any, **kwargs: Any) -> None:
        for name, value in dictionary.items():
            log(name, value)

    def manual_backward(*args: Any, **kwargs: Any) -> None:
        for weight in module.parameters():
            if weight.requires_grad and weight.grad is None:
                weight.grad = torch.zeros_like(weight)  # for code that looks at gradients

    trainer, manual = module._trainer, not module.automatic_optimization
    stand_ins: dict[str, Any] = {"log": log, "log_dict": log_dict, "print": _nothing}
    if manual:
        stand_ins |= {"manual_backward": manual_backward, "clip_gradients": _nothing}
    if manual and trainer is not None:
        optimizers, schedulers = _still(module.optimizers()), _still(module.lr_schedulers())
        stand_ins |= {"optimizers": lambda *args, **kwargs: optimizers, "lr_schedulers": lambda: schedulers}
    gradients = [(weight, weight.grad) for weight in module.parameters()]
    modes = [(part, part.training) for part in module.modules()]
    optimizing = [] if trainer is None else trainer.optimizers
    held = [each.param_groups for each in optimizing] + [each.state for each in optimizing if manual]
    restore = remember([module, *held], set())
    try:
        with same_random_numbers(), _silent(trainer):
            vars(module).update(stand_ins)
            if not training:
                module.eval()
            for weight, _ in gradients:
                weight.grad = None
            yield logged
    finally:
        restore()
        for part, mode in modes:
            if part.training != mode:
                part.training = mode
        for weight, gradient in gradients:
            weight.grad = gradient


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Random numbers of PyTorch, NumPy and Python start alike inside, and go on outside as if nothing had been drawn.

    As Lightning's ``isolate_rng`` and ``seed_everything``, in half their time: it is done some 50 times a run.
    """
    cuda = torch.cuda.default_generators  # none before its first use
    back = [_start_alike(generator) for generator in (torch.default_generator, *cuda, np.random, random)]
    try:
        yield
    finally:
        for put_back in back:
            put_back()


@contextmanager
def _silent(trainer: pl.Trainer | None) -> Iterator[None]:
    """The Trainer's loggers hear nothing, and what is asked of it is forgotten."""
    if trainer is None:
        yield
        return
    loggers, should_stop = trainer.loggers, trainer.should_stop
    trainer.loggers = [_Mute(logger) for logger in loggers]
    try:
        yield
    finally:
        trainer.loggers, trainer.should_stop = loggers, should_stop


class _Mute(DummyLogger):
    """A logger that hears nothing and knows the names and folders of the one it stands for."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self._of = of

    name, version = property(attrgetter("_of.name")), property(attrgetter("_of.version"))
    root_dir, log_dir = property(attrgetter("_of.root_dir")), property(attrgetter("_of.log_dir"))
    save_dir = property(attrgetter("_of.save_dir"))


class Still:
    """An optimizer or scheduler that does not step; all else is the one it stands for."""

    def __init__(self, of: Any) -> None:
        self._of = of

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what isinstance asks
        return self._of.__class__  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:  # to be copied and saved
        return Still, (self._of,)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        return self.step if name.startswith("step_") and callable(found) else found  # timm's step_update

    def step(self, *args: Any, closure: Any = None, **kwargs: Any) -> Any:
        """What the closure gives; nothing is stepped."""
        closure = closure or next(iter(args), None)
        return closure() if callable(closure) else None

    def zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Gradients stay: they belong to the run."""


def _still(what: Any) -> Any:
    return [Still(one) for one in what] if isinstance(what, list) else Still(what) if what is not None else None


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _unchanged() -> bool:
    return False


def remember(value: Any, seen: set[int]) -> Callable[[], bool]:
    """A function that puts ``value`` and what it holds back in place as they are now, and tells whether they had changed.

    Generators are started alike, and are never said to have changed.
    """
    if id(value) in seen:
        return _unchanged
    seen.add(id(value))
    if isinstance(value, Tensor):
        return _remember_tensor(value)
    if isinstance(value, np.ndarray):
        return _remember_array(value)
    if isinstance(value, _GENERATORS):
        return _start_alike(value)
    if isinstance(value, nn.Module):
        own = [*value.children(), *value.parameters(recurse=False), *value.buffers(recurse=False)]  # however many
        value = vars(value)
        parts = own + [part for name, part in value.items() if name not in _HOOKS]
    else:
        value = vars(value) if is_plain_object(value) else value
        own, parts = [], list(value.values() if isinstance(value, dict) else value)
    before = _contents(value)
    looked_into = parts if len(parts) <= LARGE else own
    inner = [remember(part, seen) for part in looked_into if is_changeable(part)]

    def restore() -> bool:
        after = _contents(value)
        changed = len(after) != len(before) or any(one is not other for one, other in zip(after, before, strict=True))
        if changed and not isinstance(value, tuple):
            value.clear()
            if isinstance(value, dict):
                value.update(zip(before[::2], before[1::2], strict=True))
            elif isinstance(value, set):
                value.update(before)
            else:
                value.extend(before)
        return sum([back() for back in inner]) > 0 or changed

    return restore


def is_changeable(value: Any) -> bool:
    """Whether it is something whose inside can be put back."""
    return isinstance(value, CHANGEABLE) or is_plain_object(value)


def is_plain_object(value: Any) -> bool:
    """Whether it is an object of a class of the user's that holds attributes and no data set."""
    kind: type = type(value)
    if not hasattr(value, "__dict__") or isinstance(value, type) or any(base.__name__ in NOT_PLAIN for base in kind.__mro__):
        return False
    return kind in (SimpleNamespace, Namespace) or is_users_class(kind)


_HOOKS = set(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}  # what PyTorch keeps of every module
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
CHANGEABLE = (Tensor, nn.Module, dict, list, tuple, set, deque, np.ndarray, *_GENERATORS)


def _contents(value: Any) -> list[Any]:
    """What a collection holds; of a dict, keys and values in turn."""
    return [each for item in value.items() for each in item] if isinstance(value, dict) else list(value)


def _remember_tensor(tensor: Tensor) -> Callable[[], bool]:
    # Not to be written to: what has no values (yet), and what is of a graph that may still be walked.
    if is_lazy(tensor) or tensor.is_meta or tensor.layout is not torch.strided or tensor.is_nested:
        return _unchanged
    if tensor.grad_fn is not None or tensor.is_inference():
        return _unchanged
    before, needs_gradient = tensor.detach().clone(), tensor.requires_grad

    def restore() -> bool:
        if tensor.requires_grad != needs_gradient:
            tensor.requires_grad_(needs_gradient)
        other = tensor.shape != before.shape or tensor.dtype != before.dtype
        if other:
            tensor.data = before
        elif torch.equal(tensor, before):
            return False
        else:
            with torch.no_grad():
                tensor.copy_(before)
        return True

    return restore


def _remember_array(array: np.ndarray[Any, Any]) -> Callable[[], bool]:
    before = array.copy()

    def restore() -> bool:
        if not array.flags.writeable or np.array_equal(array, before):
            return False
        array[...] = before
        return True

    return restore


def _start_alike(generator: Any) -> Callable[[], bool]:
    """A function that puts a generator of random numbers, a module of them too, back to where it was; now it starts anew."""
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        state, put = bits.state, partial(setattr, bits, "state")
        bits.state = type(bits)(PROBE_SEED).state
    elif hasattr(generator, "get_state"):  # of PyTorch, and NumPy's older
        state, put = generator.get_state(), generator.set_state
        (generator.manual_seed if isinstance(generator, torch.Generator) else generator.seed)(PROBE_SEED)
    else:  # of Python
        state, put = generator.getstate(), generator.setstate
        generator.seed(PROBE_SEED)
    return lambda: bool(put(state)) and False
