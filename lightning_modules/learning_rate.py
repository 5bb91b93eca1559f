"""Set the learning rate of any module where it is: in the attribute that holds it, and in its optimizers by ratio."""

import copy
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pytorch_lightning as pl
from torch import nn

from lightning_modules.undisturbed import Still

NAMES = ("lr", "learning_rate")  # where Lightning's own finder looks, in its order
# Learning rates an optimizer's group and a scheduler of torch keep besides ``lr``; scaled together, a schedule keeps its shape.
GROUP_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
SCHEDULER_RATES = ("base_lrs", "_last_lr", "max_lrs", "min_lrs", "default_min_lr", "eta_min")


def set_attribute(owners: Sequence[Any], names: Sequence[str], value: float) -> list[str]:
    """Set each of ``names`` that an owner or its hparams have, as Lightning does, and return the names that were found.

    A name may be a path such as ``cfg.optim.lr`` or ``groups.0.lr``, through attributes, mappings and lists; what it leads
    through is copied first, as modules may share it, such as a default argument. Numbers in a tuple, list or mapping keep
    their proportion to the first of them, which becomes ``value``. A method, and an attribute that cannot be written or holds
    a collection without a number, count as not found.

    owners: the module and its datamodule.
    """
    found = []
    for name in names:
        first, *deeper = _path(name)
        changed: dict[int, tuple[Any, Any]] = {}  # what was held and what takes its place, by the id of the former
        for holder in _holders(owners):
            held = _get(holder, first)
            if held is MISSING or callable(held):
                continue
            if id(held) not in changed:
                changed[id(held)] = held, _changed(_copy_of(held), deeper, value) if deeper else _scaled(held, value)
            by = changed[id(held)][1]
            if by is not MISSING and _put(holder, first, by):
                found.append(name)
        for held, by in changed.values() if deeper and name in found else ():
            _replace(owners, held, by)
    return list(dict.fromkeys(found))


def get_attribute(owners: Sequence[Any], names: Sequence[str]) -> Any:
    """The value of the first of ``names`` that is found, None when none is; names as in ``set_attribute``."""
    for name in names:
        for holder in _holders(owners):
            found = functools.reduce(_get, _path(name), holder)
            if found is not MISSING and found is not None and not callable(found):
                return found
    return None


def first_number(value: Any) -> float | None:
    """A learning rate as a module has it, the first of several; None where it has none yet."""
    if isinstance(value, Mapping) or isinstance(value, (list, tuple)):
        found = map(first_number, value.values() if isinstance(value, Mapping) else value)
        return next((number for number in found if number is not None), None)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


MISSING: Any = object()


def _holders(owners: Sequence[Any]) -> Iterator[Any]:
    for owner in owners:
        if owner is not None:
            yield owner
            for name in ("hparams", "_hparams_initial"):  # what checkpoints keep, and what loggers are told
                hparams = getattr(owner, name, None)
                if isinstance(hparams, dict):
                    yield hparams


def _path(name: str) -> list[str]:
    return name.removeprefix("hparams.").split(".")


def _get(holder: Any, name: str) -> Any:
    if holder is MISSING or holder is None:
        return MISSING
    if isinstance(holder, Mapping):
        return holder[name] if name in holder else MISSING
    if isinstance(holder, list) and name.isdecimal():
        return holder[int(name)] if int(name) < len(holder) else MISSING
    try:
        return getattr(holder, name, MISSING)
    except Exception:  # whatever a property of the user's says before there is a Trainer
        return MISSING


def _put(holder: Any, name: str, value: Any) -> bool:
    """Whether it could be written."""
    try:
        if isinstance(holder, MutableMapping):
            holder[name] = value
        elif isinstance(holder, list):
            holder[int(name)] = value
        else:
            setattr(holder, name, value)
    except (AttributeError, TypeError):
        return False
    return True


def _copy_of(held: Any) -> Any:
    try:
        return copy.deepcopy(held)
    except Exception:  # whatever a class of the user's says to being copied: then it is written to itself
        return held


def _scaled(held: Any, value: float) -> Any:
    """What takes the place of ``held`` so that its first number is ``value``; whole numbers stay whole where that is one."""
    if not isinstance(held, (list, tuple, Mapping)):
        return value
    first = first_number(held)
    return MISSING if first is None else _times(held, value / first, whole=isinstance(value, int))


def _times(held: Any, factor: float, *, whole: bool) -> Any:
    if isinstance(held, Mapping):
        made = copy.copy(held)
        for name, part in held.items():
            _put(made, name, _times(part, factor, whole=whole))
        return made
    if isinstance(held, (list, tuple)):
        parts = [_times(part, factor, whole=whole) for part in held]
        return type(held)(*parts) if hasattr(held, "_fields") else type(held)(parts)
    if isinstance(held, (int, float)) and not isinstance(held, bool):
        return max(1, round(held * factor)) if whole else held * factor
    return held


def _changed(of: Any, path: Sequence[str], value: float) -> Any:
    """An object of ours with what a path leads to changed; itself where it can be written to, else another one."""
    name, *deeper = path
    held = _get(of, name)
    if held is MISSING or callable(held):
        return MISSING
    changed = _changed(held, deeper, value) if deeper else _scaled(held, value)
    if changed is MISSING or _put(of, name, changed):
        return MISSING if changed is MISSING else of
    is_frozen = dataclasses.is_dataclass(of) and not isinstance(of, type)
    return dataclasses.replace(of, **{name: changed}) if is_frozen else MISSING


def _replace(owners: Sequence[Any], held: Any, by: Any) -> None:
    """Let whatever part of a module holds an object hold the one that takes its place."""
    for owner in owners:
        for part in owner.modules() if isinstance(owner, nn.Module) else [owner] if owner is not None else []:
            for name, value in vars(part).items():
                if value is held:
                    vars(part)[name] = by


@dataclass(frozen=True)
class Proportions:
    """How a module's optimizers share a learning rate, read off an untouched module.

    rates: of every parameter group of every optimizer, before any schedule, at ``learning_rate``.
    learning_rate: what the module calls its learning rate: its attribute when the optimizers follow it, else the first group's.
    followed: whether all groups follow the attribute in proportion, so that setting it is enough.
    """

    rates: tuple[float, ...]
    learning_rate: float
    followed: bool

    @classmethod
    def of(cls, rates: Sequence[float], *, attribute: float | None, twice: Sequence[float] | None) -> Self:
        """From the groups' rates at the module's own value of the attribute, and at twice that; None without attribute."""
        moved = [] if twice is None else [b / a for a, b in zip(rates, twice, strict=True) if a > 0]
        follows = attribute is not None and any(not math.isclose(ratio, 1) for ratio in moved)
        first = next((rate for rate in rates if rate > 0), 1.0)
        return cls(
            rates=tuple(rates),
            learning_rate=attribute if follows and attribute is not None else first,
            followed=follows and all(math.isclose(ratio, 2, rel_tol=1e-6) for ratio in moved),
        )


class LearningRate(pl.Callback):
    """Makes every optimizer of a fit step with ``learning_rate``, each parameter group in its proportion.

    It acts when optimizers and schedulers have been made and before the first step. Where the optimizers follow the module's
    attribute, which was set before they were made, they are left as the module made them.

    Args:
        learning_rate: above 0.
        proportions: of the untouched module; None leaves the optimizers as they are.
        constant: let no scheduler step.

    Attributes:
        rates: of every parameter group before any schedule, known once the fit began.
    """

    def __init__(self, learning_rate: float, proportions: Proportions | None, *, constant: bool = False) -> None:
        self.learning_rate = learning_rate
        self.proportions = proportions
        self.constant = constant
        self.rates: list[float] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scale the groups and their schedulers, or hold the schedulers still."""
        self.set(trainer.optimizers, trainer.lr_scheduler_configs)

    def set(self, optimizers: Sequence[Any], scheduler_configs: Sequence[Any] = ()) -> None:
        """The same for optimizers outside a fit."""
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        if self.proportions is not None and not self.proportions.followed:
            factor = self.learning_rate / self.proportions.learning_rate
            wanted = [factor * rate for rate in self.proportions.rates]
            factors = [
                rate / base_rate(group) if base_rate(group) > 0 else 1.0 for rate, group in zip(wanted, groups, strict=True)
            ]
            for group, by in zip(groups, factors, strict=True):
                _scale_group(group, by)
            left = iter(factors)
            of_optimizer = {id(each): [next(left) for _ in each.param_groups] for each in optimizers}
            for config in scheduler_configs:
                _scale_scheduler(config.scheduler, of_optimizer[id(config.scheduler.optimizer)])
        if self.constant:
            for group in groups:
                group["lr"] = base_rate(group)
            for config in scheduler_configs:  # the module may ask for them, and step them itself
                config.scheduler, config.reduce_on_plateau = Still(config.scheduler), False
        self.rates = [base_rate(group) for group in groups]


def base_rate(group: dict[str, Any]) -> float:
    """The learning rate of a parameter group before any schedule: the highest of a one-cycle schedule, else the initial."""
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def _scale_group(group: dict[str, Any], factor: float) -> None:
    for name in GROUP_RATES:
        if name in group:
            group[name] = group[name] * factor


def _scale_scheduler(scheduler: Any, factors: Sequence[float]) -> None:
    for name in SCHEDULER_RATES:
        value = getattr(scheduler, name, None)
        if isinstance(value, (int, float)):
            setattr(scheduler, name, value * factors[0])
        elif isinstance(value, list):
            setattr(scheduler, name, [rate * factor for rate, factor in zip(value, factors, strict=True)])
    for inner in getattr(scheduler, "_schedulers", ()):
        _scale_scheduler(inner, factors)
