"""An optimizer of ``torch.optim`` for many members at once, each at a learning rate and on a schedule of its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop
from torch.optim.lr_scheduler import LRScheduler

from lightning_modules.fused.call import NotFusable

# Each number of a weight moves by the learning rate times what depends on that number's gradients alone.
STACKED = (Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, SGD)
# Settings of the optimizer that finds the directions: what depends on weights or rates is done here, for each member.
NEUTRAL = {"lr": 1.0, "weight_decay": 0, "maximize": False, "foreach": None, "fused": None, "capturable": False}
AT_START = "initial_accumulator_value"  # of Adagrad: read only when it is made


class StackedOptimizer(Optimizer):
    """One of ``STACKED`` for stacked weights, shape (n_members, ...), with a learning rate for each member.

    The same optimizer of torch finds the directions of all members, as steps from 0 at learning rate 1. State that it keeps
    for each number is stacked like the weights; what it counts is the same for all members.

    members: an optimizer for each, with the same groups; their weights are not touched.
    stacked: by the ``id`` of a weight of the first of them, the stacked weights that stand for it.

    Attributes:
        highest: of each member that there was, the highest learning rate that each group stepped with.

    Raises:
        NotFusable: for another optimizer, and where members differ in more than the learning rate; from ``follow`` too. From
            ``step`` where somebody else changed the settings.
    """

    def __init__(self, members: Sequence[Optimizer], stacked: Mapping[int, Tensor]) -> None:
        first = members[0]
        for member in members:
            refuse_optimizer(member, type(first))
        self.members = list(members)
        self.highest = [[0.0] * len(first.param_groups) for _ in members]
        self._places = list(range(len(members)))  # of those that are left
        groups = [group | {"params": [stacked[id(weight)] for weight in group["params"]]} for group in first.param_groups]
        super().__init__(groups, {})
        zeros = [{"params": [torch.zeros_like(weight) for weight in group["params"]]} for group in groups]
        at_start = {AT_START: first.defaults[AT_START]} if AT_START in first.defaults else {}
        self._directions = type(first)(zeros, **at_start)
        self.follow()

    def follow(self) -> None:
        """Take the members' settings of this moment, which their schedules change."""
        names = self.members[0].defaults.keys() - {"lr"}
        some_weight = next(weight for group in self.param_groups for weight in group["params"])
        for k, group in enumerate(self.param_groups):
            settings, *others = ({name: member.param_groups[k][name] for name in names} for member in self.members)
            for other in others:
                if other != settings:
                    differ = sorted(name for name in names if other[name] != settings[name])
                    raise NotFusable(f"its {', '.join(differ)} differs between members")
            group |= settings
            group["lr"] = self.members[0].param_groups[k]["lr"]
            direction = self._directions.param_groups[k]
            direction |= settings | {name: value for name, value in NEUTRAL.items() if name in direction}
            rates = [float(member.param_groups[k]["lr"]) for member in self.members]
            weight = next(iter(group["params"]), some_weight)
            to = {"dtype": torch.promote_types(torch.float32, weight.dtype.to_real()), "device": weight.device}
            group["rates"] = torch.tensor(rates, **to)
            if group.get("decoupled_weight_decay"):
                group["shrinking"] = torch.tensor([1 - rate * float(group["weight_decay"]) for rate in rates], **to)
        self._has_new_rates = True

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all members."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group, own in zip(self.param_groups, self.members[0].param_groups, strict=True):
            if any(group[name] != own[name] for name in self.members[0].defaults):
                raise NotFusable("it sets its optimizer anew itself")
        if self._has_new_rates:
            for place, member in zip(self._places, self.members, strict=True):
                self.highest[place] = [*map(max, self.highest[place], (float(group["lr"]) for group in member.param_groups))]
            self._has_new_rates = False
        is_sgd = isinstance(self._directions, SGD)
        for group, weight, direction in self._each():
            direction.grad = None
            if weight.grad is None:
                continue
            gradient = _gradient(group, weight, weight.grad)
            if is_sgd and not group["momentum"]:  # the gradient is the direction: half the time
                weight.addcmul_(gradient, _by_member(group["rates"], weight), value=-1.0)
            else:
                direction.grad = gradient
                direction.zero_()
        self._directions.step()
        for group, weight, direction in self._each():
            if direction.grad is not None:
                if group.get("decoupled_weight_decay") and group["weight_decay"]:
                    weight.mul_(_by_member(group["shrinking"], weight))
                weight.addcmul_(direction, _by_member(group["rates"], weight))
        return loss

    def _each(self) -> Iterator[tuple[dict[str, Any], Tensor, Tensor]]:
        """Each weight with its group and its direction."""
        for group, directions in zip(self.param_groups, self._directions.param_groups, strict=True):
            for weight, direction in zip(group["params"], directions["params"], strict=True):
                yield group, weight, direction

    @torch.no_grad()
    def clip_norms(self, most: float) -> None:
        """Scale the gradients of each member so that their norm is at most ``most``, as ``clip_grad_norm_`` does."""
        gradients = [weight.grad for _, weight, _ in self._each() if weight.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(each.unsqueeze(-1).flatten(1), dim=1) for each in gradients])
        factors = (most / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(_by_member(factors, gradient))

    @torch.no_grad()
    def keep(self, places: Sequence[int]) -> None:
        """Forget the members that are not at ``places``."""
        self.members = [self.members[place] for place in places]
        self._places = [self._places[place] for place in places]
        self.follow()
        for _, _, direction in self._each():
            direction.grad, direction.data = None, direction.data[list(places)]
            state = self._directions.state[direction]
            state |= {name: held[list(places)] for name, held in state.items() if held is not None and held.ndim}


def refuse_optimizer(optimizer: Optimizer, kind: type) -> None:
    """Raise NotFusable for one that is not of ``kind``, one of ``STACKED``, does more than that or has begun."""
    if type(optimizer) is not kind:
        raise NotFusable(f"configure_optimizers gives some members {kind.__name__}, others {type(optimizer).__name__}")
    if kind not in STACKED:
        names = ", ".join(each.__name__ for each in STACKED)
        own = kind.__name__ if kind.__module__.startswith("torch.") else f"{kind.__module__}.{kind.__name__}"
        raise NotFusable(f"configure_optimizers gives {own}, not one of torch.optim's {names}")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise NotFusable(f"its {kind.__name__} has hooks")
    if any(float(state.get("step", 1)) for state in optimizer.state.values()):
        raise NotFusable(f"its {kind.__name__} has a state before the first step")


def _gradient(group: Mapping[str, Any], weight: Tensor, gradient: Tensor) -> Tensor:
    """Where to descend, with weight decay where it is part of the loss."""
    gradient = -gradient if group["maximize"] else gradient
    if group["weight_decay"] and not group.get("decoupled_weight_decay"):
        return gradient.add(weight, alpha=group["weight_decay"])
    return gradient


def _by_member(values: Tensor, weight: Tensor) -> Tensor:
    """A value of each member in the shape in which it acts on all numbers of that member's weight."""
    return values.view(-1, *[1] * (weight.ndim - 1))


class StackedScheduler(LRScheduler):
    """The schedules of all members, stepped together.

    schedulers: one a member, each of that member's own optimizer.
    """

    optimizer: StackedOptimizer

    def __init__(self, optimizer: StackedOptimizer, schedulers: Sequence[LRScheduler]) -> None:
        self.optimizer, self.schedulers = optimizer, schedulers
        for scheduler in schedulers:
            scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]  # else it would warn that no step came before

    def step(self, epoch: int | None = None) -> None:
        """One step of each schedule."""
        for scheduler in self.schedulers:
            scheduler.step()
        self.optimizer.follow()

    def look(self, values: Mapping[int, float]) -> None:
        """One step of the schedules that look at a metric, by member; members that left have none."""
        for member, value in values.items():
            self.schedulers[member].step(value)  # type: ignore[arg-type]
        self.optimizer.follow()
