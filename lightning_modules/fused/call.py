"""A method of a user's module called as the members of a stack: with other weights, and with what it logs caught."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode

from lightning_modules.fused.stacked_metrics import Heard, OfBatch


class NotFusable(Exception):
    """A module that must be trained alone; the message says why."""


class Call(nn.Module):
    """Calls a method of a module as ``forward``, so that ``functional_call`` can give it other weights.

    heard: what stands in the place of its metric objects.
    """

    def __init__(self, module: pl.LightningModule, heard: Sequence[Heard] = ()) -> None:
        super().__init__()
        self.module = module
        self.over_epoch: set[str] = set()  # logged in training as the mean of an epoch, others as the last of its values
        self.objects: dict[str, dict[str, Heard]] = {"training_step": {}, "validation_step": {}}  # logged, by method and name
        self._heard = [*heard]  # in a list, so that they are no part of this module
        methods = {name: getattr(module, name) for name in ("training_step", "validation_step")}
        takes_index = {name: is_param_in_hook_signature(method, "batch_idx", min_args=2) for name, method in methods.items()}
        self._takes_index = takes_index

    def training_mode(self, is_on: bool) -> None:
        """Set training or evaluation mode."""
        if self.module.training != is_on:
            self.module.train(is_on)

    def forward(self, method: str, batch: Any, batch_idx: int) -> tuple[Tensor, dict[str, Tensor], list[Any]]:
        """The loss of a method, 0 where it returns none, the numbers it logged, by name, and what its metric objects heard."""
        logged: dict[str, Tensor] = {}

        def log(
            name: str,
            value: Any,
            prog_bar: bool = False,
            logger: Any = None,
            on_step: bool | None = None,
            on_epoch: bool | None = None,
            reduce_fx: Any = "mean",
            **kwargs: Any,
        ) -> None:
            over_epoch = method == "validation_step" if on_epoch is None else on_epoch
            if isinstance(value, OfBatch) or (isinstance(value, Heard) and not over_epoch):
                raise NotFusable(f"it logs {name!r}, the value of a metric object for each batch")
            if isinstance(value, Heard):
                self.objects[method][name] = value
                return
            if not isinstance(value, (Tensor, int, float)):
                raise NotFusable(f"it logs {name!r} as {type(value).__name__}, which keeps a state")
            if over_epoch and reduce_fx not in ("mean", torch.mean):
                raise NotFusable(f"it logs {name!r} with a reduce_fx")
            if over_epoch and method == "training_step":
                self.over_epoch.add(name)
            logged[name] = torch.as_tensor(value, dtype=torch.float32).detach()

        def log_dict(dictionary: Any, *args: Any, **kwargs: Any) -> None:
            of = dict.fromkeys(dictionary.names, dictionary) if isinstance(dictionary, Heard) else dictionary
            for name, value in of.items():
                log(name, value, *args, **kwargs)

        for heard in self._heard:
            heard.calls = []
        function = getattr(self.module, method)
        vars(self.module).update(log=log, log_dict=log_dict)
        try:
            with AlongExamples():
                outcome: Any = function(batch, batch_idx) if self._takes_index[method] else function(batch)
        finally:
            del self.module.log, self.module.log_dict
        loss = outcome.get("loss") if isinstance(outcome, Mapping) else outcome
        return torch.zeros(()) if loss is None else loss, logged, [heard.calls for heard in self._heard]


class AlongExamples(TorchFunctionMode):
    """Computes the cross-entropy of (n_examples, n_classes) as that of (1, n_classes, n_examples), the same number.

    PyTorch's softmax over a last axis of few classes takes eight times as long on a CPU.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func is cross_entropy and len(args) == 2 and args[0].ndim == 2 and args[1].ndim == 1:
            losses = func(args[0].t().contiguous()[None], args[1][None], **options)
            return losses[0] if losses.ndim else losses
        return func(*args, **options)


class Logged:
    """Metrics of an epoch by name, of each member: means weighted by examples, or the last value."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, logged: Mapping[str, Tensor], over_epoch: set[str], count: int) -> None:
        """What a batch of ``count`` examples logged; over_epoch: names of which the mean is wanted."""
        for name, values in logged.items():
            if name in over_epoch and name in self._sums:
                self._sums[name] = self._sums[name] + values * count
                self._counts[name] += count
            else:
                self._sums[name], self._counts[name] = values * count, count

    def forget(self, stay: Sequence[int]) -> None:
        """Keep the members at these places."""
        self._sums = {name: values[list(stay)] for name, values in self._sums.items()}

    def values(self) -> dict[str, list[float]]:
        """By name, the value of each member."""
        return {name: (values / self._counts[name]).tolist() for name, values in self._sums.items()}
