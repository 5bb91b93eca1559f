"""Dropout, batch norm and their like as in evaluation, so that what else differs in training mode can be seen."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

NOISE = "dropout alpha_dropout dropout1d dropout2d dropout3d feature_alpha_dropout rrelu batch_norm".split()


@contextlib.contextmanager
def as_evaluated(module: nn.Module, *, averages: bool = True) -> Iterator[None]:
    """Dropout, batch norm and their like act as in evaluation mode, whatever the mode of the module.

    They are the layers of PyTorch, parts without weights and parts of their own, such as stochastic depth, and the functions
    that are told whether they are in training. averages: so do the layers that keep averages; else dropout and its like alone.
    """
    layers = [part for part in module.modules() if part is not module and _is_layer(part) and (averages or _is_noise(part))]
    modes = [part.training for part in layers]
    for part in layers:
        part.training = False
    try:
        with _NoNoise(averages=averages):
            yield
    finally:
        for part, mode in zip(layers, modes, strict=True):
            part.training = mode


def _is_layer(part: nn.Module) -> bool:
    return type(part).__module__.startswith("torch.nn.") or not (any(part.children()) or any(True for _ in part.parameters()))


def _is_noise(part: nn.Module) -> bool:
    return not any(True for _ in (*part.children(), *part.parameters(), *part.buffers()))


class _NoNoise(TorchFunctionMode):
    """Functions that drop out do as in evaluation mode; averages: so do those that take averages of the batch."""

    def __init__(self, *, averages: bool) -> None:
        super().__init__()
        self._averages = averages

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            args, kwargs = args[:4], kwargs | {"dropout_p": 0.0} | ({"is_causal": args[5]} if len(args) > 5 else {})
        elif func in (torch.dropout, torch.alpha_dropout, torch.feature_dropout):
            args, kwargs = (*args[:2], False), {name: value for name, value in kwargs.items() if name != "train"}
        elif func in _noisy():
            bound = signature(func).bind(*args, **kwargs)
            if "running_mean" not in bound.arguments or (self._averages and bound.arguments["running_mean"] is not None):
                bound.arguments["training"] = False
            args, kwargs = bound.args, bound.kwargs
        return func(*args, **kwargs)


@cache
def _noisy() -> frozenset[Callable[..., Any]]:
    return frozenset(getattr(functional, name) for name in NOISE)
