"""What changes in a run from batch to batch beside the weights: state that is carried on, numbers, and how far the run is."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_modules.undisturbed import is_changeable, is_plain_object, remember

Slot = tuple[str, str]  # a part of a module by its name, "" for itself, and an attribute or buffer of it, or a path in that
DEEP = 3  # names of such a path, at most
NOT_STATE = set(vars(pl.LightningModule()))  # what Lightning and PyTorch keep in every module
COUNTS_ONLY = "num_batches_tracked"  # of batch norm
MISSING = object()


def numbers(module: nn.Module) -> dict[Slot, float]:
    """Whatever a module and its parts hold in attributes or buffers that is one number, such as a margin or a counter.

    Mappings and objects of the user's own classes are looked into.
    """
    found = {}
    for path, part in module.named_modules():
        held = {name: value for name, value in (*vars(part).items(), *part._buffers.items()) if name not in NOT_STATE}
        for name, value in _numbers_in(held, DEEP):
            found[path, name] = value
    return found


def _numbers_in(held: Mapping[Any, Any], deep: int) -> Iterator[tuple[str, float]]:
    for name, value in [*held.items()]:
        if name == COUNTS_ONLY or not isinstance(name, str) or "." in name:
            continue
        if _is_number(value):
            yield name, float(value)
        elif deep > 1 and (isinstance(value, dict) or is_plain_object(value)):
            for inner, number in _numbers_in(value if isinstance(value, dict) else vars(value), deep - 1):
                yield f"{name}.{inner}", number


def of_class(module: nn.Module, slot: Slot) -> float | None:
    """What a part of a module has in an attribute where its instances have not set it, if that is one number."""
    value: Any = getattr(type(module.get_submodule(slot[0])), slot[1], None)
    return float(value) if _is_number(value) else None


def put_numbers(module: nn.Module, values: Mapping[Slot, float]) -> None:
    """Set what ``numbers`` found, each in its own type; to be called where it will be put back."""
    for (path, name), value in values.items():
        *outer, last = name.split(".")
        inside: Any = module.get_submodule(path)
        for each in outer:
            inside = inside[each] if isinstance(inside, dict) else getattr(inside, each)
        held = inside.get(last) if isinstance(inside, dict) else getattr(inside, last, None)
        if isinstance(held, Tensor):
            held.data.fill_(value)
        elif held is not None:
            (inside if isinstance(inside, dict) else vars(inside))[last] = type(held)(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not is_lazy(value) and value.numel() == 1 and not value.is_complex() and not value.is_meta
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


class Carried:
    """The state that a module carries from batch to batch, such as the hidden state of a recurrent network, as it is now.

    slots: as ``find_carried`` gives them.
    """

    def __init__(self, module: nn.Module, slots: Sequence[Slot]) -> None:
        self._values = {slot: _copied(_held(module, slot)) for slot in slots}

    def put(self, module: nn.Module) -> None:
        """Let the module start from it; to be called where what it holds now will be put back."""
        for (path, name), value in self._values.items():
            part = module.get_submodule(path)
            if name in part._buffers:
                part._buffers[name] = _copied(value)
            elif value is MISSING:
                vars(part).pop(name, None)
            else:
                vars(part)[name] = _copied(value)


def find_carried(module: nn.Module, evaluate: Callable[[], None], batch_size: int) -> tuple[Slot, ...]:
    """The attributes and buffers in which ``evaluate``, some calls of ``training_step``, leaves a state for the next.

    Attributes that are no single number, whatever becomes of them. Of the buffers those that are written to in part, such as a
    queue and its pointer, or hold something for each of the ``batch_size`` examples. Not those that change as a whole: averages
    and codebooks are learned, as weights are. It is to be called where everything will be put back.
    """
    seen = {id(weight) for weight in module.parameters()}
    before = {slot: (value, remember(value, seen) if is_changeable(value) else None) for slot, value in _slots(module)}
    buffers = {(path, name): value.clone() for path, part in module.named_modules() for name, value in _buffers(part)}
    evaluate()
    found = []
    for slot, now in [*_slots(module)]:
        value, put_back = before.get(slot, (MISSING, None))
        changed = (put_back is not None and put_back()) or now is not value
        if changed and not (_is_number(now) and (value is MISSING or value is None or _is_number(value))):
            found.append(slot)
    for (path, name), was in buffers.items():
        value = module.get_submodule(path)._buffers.get(name)
        if value is None or name == COUNTS_ONLY or value.shape != was.shape:
            continue
        same = value == was
        in_part = value.numel() > 1 and same.any() or not value.is_floating_point()
        if not same.all() and (in_part or batch_size in value.shape):
            found.append((path, name))
    return tuple(found)


def _slots(module: nn.Module) -> Iterator[tuple[Slot, Any]]:
    for path, part in module.named_modules():
        yield from (((path, name), value) for name, value in [*vars(part).items()] if name not in NOT_STATE)


def _buffers(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, value in part._buffers.items():
        if value is not None and not is_lazy(value) and not value.is_meta:
            yield name, value


def _held(module: nn.Module, slot: Slot) -> Any:
    part = module.get_submodule(slot[0])
    return part._buffers[slot[1]] if slot[1] in part._buffers else vars(part).get(slot[1], MISSING)


def _copied(value: Any) -> Any:
    if value is MISSING:
        return value
    tensors: dict[int, Any] = {}
    _detached(value, tensors)
    return copy.deepcopy(value, tensors)


def _detached(value: Any, found: dict[int, Any]) -> None:
    """Copies of the tensors in collections by their id: PyTorch does not copy those of a graph."""
    if isinstance(value, Tensor):
        found[id(value)] = value.detach().clone()
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            _detached(part, found)


def total_batches(trainer: pl.Trainer) -> float:
    """Training batches of a whole run, inf where that is not known."""
    epochs, steps = trainer.max_epochs or 1, trainer.max_steps
    by_epochs = trainer.num_training_batches * epochs if epochs > 0 else math.inf
    return min(by_epochs, steps * trainer.accumulate_grad_batches if steps >= 0 else math.inf)


@contextmanager
def as_at_end(trainer: pl.Trainer) -> Iterator[None]:
    """Trainer and module say that the run is in its last step: ``current_epoch`` and ``global_step``."""
    batches, per_epoch = total_batches(trainer), trainer.num_training_batches
    epochs = math.ceil(batches / per_epoch) if per_epoch < batches < math.inf else max(1, trainer.max_epochs or 1)
    loop = trainer.fit_loop
    epoch_loop = loop.epoch_loop
    told: list[tuple[Any, str, int]] = [(loop.epoch_progress.current, name, epochs - 1) for name in ("completed", "processed")]
    if math.isfinite(batches):
        steps = max(0, math.ceil(batches / trainer.accumulate_grad_batches) - 1)
        steps *= 1 if trainer.lightning_module.automatic_optimization else max(1, len(trainer.optimizers))
        automatic = epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        told += [
            (automatic, "completed", steps),
            (epoch_loop.manual_optimization.optim_step_progress.total, "completed", steps),
        ]
    was = [(of, name, getattr(of, name)) for of, name, _ in told]
    try:
        for of, name, value in told:
            setattr(of, name, value)
        yield
    finally:
        for of, name, value in was:
            setattr(of, name, value)


def start_epoch(module: pl.LightningModule, batch: Any) -> None:
    """Call what a module does itself at the start of an epoch and of a batch, such as setting a margin."""
    module.on_train_epoch_start()
    module.on_train_batch_start(batch, 0)
