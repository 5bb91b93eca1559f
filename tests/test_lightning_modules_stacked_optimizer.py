"""A stacked optimizer against one of torch a member: the same weights at every step, whoever leaves the stack on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import ASGD, LBFGS, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, StepLR

from lightning_modules.fused.call import NotFusable
from lightning_modules.fused.stacked_optimizer import STACKED, StackedOptimizer, StackedScheduler

RATES, GAMMAS = (0.1, 0.2, 0.3), (0.5, 0.25, 0.1)  # of three members, each on a schedule of its own
OPTIONS: dict[str, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
    "SGD": (SGD, {}),
    "momentum": (SGD, {"momentum": 0.9}),
    "dampening": (SGD, {"momentum": 0.9, "dampening": 0.3}),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True}),
    "weight decay": (SGD, {"weight_decay": 0.1}),
    "weight decay and momentum": (SGD, {"weight_decay": 0.1, "momentum": 0.9}),
    "maximize": (SGD, {"maximize": True, "momentum": 0.9, "weight_decay": 0.1}),
    "Adam": (Adam, {}),
    "Adam, all": (Adam, {"betas": (0.7, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True, "amsgrad": True}),
    "Adam, decoupled": (Adam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "Adam, one tensor at a time": (Adam, {"foreach": False, "lr": torch.tensor(0.1)}),
    "Adam, fused by torch": (Adam, {"fused": True, "weight_decay": 0.1}),
    "AdamW": (AdamW, {"weight_decay": 0.5}),
    "AdamW, amsgrad": (AdamW, {"amsgrad": True, "foreach": True}),
    "RMSprop": (RMSprop, {"weight_decay": 0.1}),
    "RMSprop, all": (RMSprop, {"momentum": 0.9, "centered": True, "alpha": 0.8, "eps": 1e-3, "maximize": True}),
    "Adagrad": (Adagrad, {"weight_decay": 0.1}),
    "Adagrad, all": (Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3}),
    "NAdam": (NAdam, {"weight_decay": 0.1}),
    "NAdam, decoupled": (NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1}),
    "Adamax": (Adamax, {"weight_decay": 0.1}),
    "RAdam": (RAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.9, 0.6)}),
    "Adadelta": (Adadelta, {"weight_decay": 0.1}),
}
options = pytest.mark.parametrize("name", OPTIONS)


def weights() -> Tensor:
    """A weight of each member, shape (3, 2, 4)."""
    return torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))


def members(name: str = "SGD") -> tuple[list[nn.Parameter], list[Optimizer], list[LRScheduler]]:
    kind, settings = OPTIONS[name]
    alone = [nn.Parameter(weight.clone()) for weight in weights()]
    rates = [torch.tensor(rate) if "lr" in settings else rate for rate in RATES]
    optimizers = [kind([weight], **settings | {"lr": rate}) for weight, rate in zip(alone, rates, strict=True)]
    return alone, optimizers, [StepLR(each, 1, gamma) for each, gamma in zip(optimizers, GAMMAS, strict=True)]


def stack(name: str = "SGD") -> tuple[nn.Parameter, StackedOptimizer, StackedScheduler]:
    alone, optimizers, schedules = members(name)
    stacked = nn.Parameter(weights())
    optimizer = StackedOptimizer(optimizers, {id(alone[0]): stacked})
    return stacked, optimizer, StackedScheduler(optimizer, schedules)


def loss(weight: Tensor) -> Tensor:
    """Other gradients at every step and for every value."""
    return (weight.sin() * torch.arange(1.0, 5.0)).sum()


def step(weight: Tensor, optimizer: torch.optim.Optimizer, schedule: LRScheduler, *, to_none: bool = True) -> None:
    optimizer.zero_grad(set_to_none=to_none)
    loss(weight).backward()
    optimizer.step()
    schedule.step()


def alone_after(steps: int, name: str) -> Tensor:
    """Weights of all members, each trained by torch alone, shape (3, 2, 4)."""
    found, optimizers, schedules = members(name)
    for weight, optimizer, schedule in zip(found, optimizers, schedules, strict=True):
        for _ in range(steps):
            step(weight, optimizer, schedule)
    return torch.stack([weight.detach() for weight in found])


def leave(weight: nn.Parameter, optimizer: StackedOptimizer, places: Sequence[int]) -> None:
    weight.data, weight.grad = weight.data[list(places)], None
    optimizer.keep(places)


@options
@pytest.mark.parametrize("to_none", [True, False], ids=["gradients set to None", "gradients set to 0"])
def test_every_member_steps_as_its_own_optimizer_would(name: str, to_none: bool) -> None:
    """Gradients set to 0 are the same tensors at every step, so that the momentum must not be kept in them."""
    weight, optimizer, schedule = stack(name)
    for _ in range(4):
        step(weight, optimizer, schedule, to_none=to_none)
    torch.testing.assert_close(weight.detach(), alone_after(4, name))


@options
@pytest.mark.parametrize("places", [[0, 2], [2, 0], [1, 1]], ids=str)
def test_members_that_are_left_keep_their_learning_rates_schedules_and_momentum(name: str, places: list[int]) -> None:
    """One that was left alone stands in the stack twice."""
    weight, optimizer, schedule = stack(name)
    for number in range(4):
        if number == 2:
            leave(weight, optimizer, places)
        step(weight, optimizer, schedule)
        rates = [RATES[place] * GAMMAS[place] ** (number + 1) for place in (places if number >= 2 else range(3))]
        assert optimizer.param_groups[0]["rates"].tolist() == pytest.approx(rates)
    torch.testing.assert_close(weight.detach(), alone_after(4, name)[places])


def test_member_that_leaves_before_the_schedule_steps_takes_its_learning_rate_with_it() -> None:
    weight, optimizer, _ = stack()
    leave(weight, optimizer, [2, 0])
    assert optimizer.param_groups[0]["rates"].tolist() == pytest.approx([0.3, 0.1])


def test_highest_learning_rates_are_of_the_steps_that_were_made_and_stay_with_their_members() -> None:
    """The schedules rise; the one in the middle leaves after the first step, and nothing steps with the last rates."""
    alone, optimizers, _ = members()
    rising: list[LRScheduler] = [StepLR(each, 1, gamma) for each, gamma in zip(optimizers, (2.0, 3.0, 4.0), strict=True)]
    weight = nn.Parameter(weights())
    optimizer = StackedOptimizer(optimizers, {id(alone[0]): weight})
    schedule = StackedScheduler(optimizer, rising)
    assert optimizer.highest == [[0.0], [0.0], [0.0]]
    step(weight, optimizer, schedule)
    leave(weight, optimizer, [0, 2])
    step(weight, optimizer, schedule)
    assert [rate for (rate,) in optimizer.highest] == pytest.approx([0.2, 0.2, 1.2])


def test_a_falling_schedule_leaves_the_highest_learning_rate_at_its_first_step() -> None:
    weight, optimizer, schedule = stack()
    for _ in range(3):
        step(weight, optimizer, schedule)
    assert [rate for (rate,) in optimizer.highest] == pytest.approx(list(RATES))


@options
@pytest.mark.parametrize("others", [1e30, float("inf"), float("nan")], ids=str)
def test_members_that_are_lost_leave_their_neighbours_as_they_are_to_the_bit(name: str, others: float) -> None:
    weight, optimizer, schedule = stack(name)
    beside, optimizer_beside, schedule_beside = stack(name)
    beside.data[1] = others
    for _ in range(4):
        step(weight, optimizer, schedule)
        step(beside, optimizer_beside, schedule_beside)
    assert torch.equal(weight[[0, 2]], beside[[0, 2]])


@options
def test_a_member_does_not_depend_on_how_many_there_are_to_the_bit(name: str) -> None:
    """Vectorised kernels treat what is left over at the end of a tensor one number at a time."""
    kind, settings = OPTIONS[name]
    starts = torch.randn(20, 7, generator=torch.Generator().manual_seed(1))

    def after(places: Sequence[int]) -> Tensor:
        alone = [nn.Parameter(starts[place].clone()) for place in places]
        optimizers = [
            kind([weight], **settings | {"lr": 0.01 * (place + 1)}) for weight, place in zip(alone, places, strict=True)
        ]
        stacked = nn.Parameter(starts[list(places)])
        optimizer = StackedOptimizer(optimizers, {id(alone[0]): stacked})
        for _ in range(20):
            optimizer.zero_grad()
            (stacked.sin() * torch.arange(1.0, 8.0)).sum().backward()
            optimizer.clip_norms(5.0)
            optimizer.step()
        return stacked.detach()

    of_all = after(range(20))
    for places in ([0, 1], [7, 3, 5], range(1, 20)):
        assert torch.equal(after(places), of_all[list(places)])


SCHEDULES: dict[str, Callable[[Optimizer, float], LRScheduler]] = {
    "one cycle": lambda optimizer, rate: OneCycleLR(optimizer, max_lr=rate, total_steps=6),
    "cyclic": lambda optimizer, rate: CyclicLR(optimizer, base_lr=rate / 10, max_lr=rate, step_size_up=2, base_momentum=0.5),
}


@pytest.mark.parametrize("name", ["momentum", "AdamW", "NAdam", "RMSprop, all"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_that_move_momentum_or_betas_move_them_in_the_stack(name: str, schedule: str) -> None:
    alone, optimizers, _ = members(name)
    schedules = [SCHEDULES[schedule](optimizer, rate) for optimizer, rate in zip(optimizers, RATES, strict=True)]
    stacked = nn.Parameter(weights())
    optimizer = StackedOptimizer(optimizers, {id(alone[0]): stacked})
    together = StackedScheduler(optimizer, schedules)
    for _ in range(5):
        step(stacked, optimizer, together)
    alone, optimizers, _ = members(name)
    for weight, each, rate in zip(alone, optimizers, RATES, strict=True):
        own = SCHEDULES[schedule](each, rate)
        for _ in range(5):
            step(weight, each, own)
    torch.testing.assert_close(stacked.detach(), torch.stack([weight.detach() for weight in alone]))


@pytest.mark.parametrize("most", [0.1, 3.0, 1e3, float("inf")], ids=str)
def test_each_member_is_clipped_by_the_norm_of_its_own_gradients(most: float) -> None:
    """Of a matrix, a vector and a number; that of the first member is 0, and one of the third is infinite."""
    shapes = [(2, 4), (3,), ()]
    gradients = [torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)) * 2 for shape in shapes]
    gradients[0][2, 0, 0] = float("inf")
    for each in gradients:
        each[0] = 0.0
    alone = [[nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(3)]
    stacked = [nn.Parameter(torch.zeros(3, *shape)) for shape in shapes]
    optimizer = StackedOptimizer([SGD(each, lr=0.1) for each in alone], dict(zip(map(id, alone[0]), stacked, strict=True)))
    for weight, gradient in zip(stacked, gradients, strict=True):
        weight.grad = gradient.clone()
    optimizer.clip_norms(most)
    for place, weights_of_one in enumerate(alone):
        for weight, gradient in zip(weights_of_one, gradients, strict=True):
            weight.grad = gradient[place].clone()
        clip_grad_norm_(weights_of_one, most)
        for weight, together in zip(weights_of_one, stacked, strict=True):
            assert weight.grad is not None and together.grad is not None
            torch.testing.assert_close(together.grad[place], weight.grad, equal_nan=True)


class OwnAdam(Adam):
    """Of a user's."""


def hooked(weights: list[nn.Parameter]) -> Optimizer:
    optimizer = SGD(weights, lr=0.1)
    optimizer.register_step_post_hook(lambda *_: None)
    return optimizer


def begun(weights: list[nn.Parameter]) -> Optimizer:
    optimizer = Adam(weights, lr=0.1)
    weights[0].grad = torch.zeros_like(weights[0])
    optimizer.step()
    return optimizer


NAMES = ", ".join(kind.__name__ for kind in STACKED)
REFUSED: dict[str, tuple[Callable[[list[nn.Parameter]], Optimizer], str]] = {
    "LBFGS": (lambda weights: LBFGS(weights), f"configure_optimizers gives LBFGS, not one of torch.optim's {NAMES}"),
    "ASGD": (lambda weights: ASGD(weights), "configure_optimizers gives ASGD, not one of"),
    "subclass": (lambda weights: OwnAdam(weights), "configure_optimizers gives test_lightning_modules_.*.OwnAdam, not one of"),
    "hooks": (hooked, "its SGD has hooks"),
    "state": (begun, "its Adam has a state before the first step"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_optimizer_that_cannot_be_stacked_is_refused_by_name(name: str) -> None:
    make, sentence = REFUSED[name]
    alone = [nn.Parameter(weight) for weight in weights()]
    with pytest.raises(NotFusable, match=f"^{sentence}"):
        StackedOptimizer([make([weight]) for weight in alone], {id(alone[0]): nn.Parameter(weights())})


def test_members_that_differ_in_more_than_the_learning_rate_are_refused() -> None:
    alone = [nn.Parameter(weight) for weight in weights()]
    stacked = {id(alone[0]): nn.Parameter(weights())}
    with pytest.raises(NotFusable, match="^its eps, weight_decay differs between members$"):
        optimizers = [AdamW([weight], lr=rate, weight_decay=rate, eps=rate) for weight, rate in zip(alone, RATES, strict=True)]
        StackedOptimizer(optimizers, stacked)
    with pytest.raises(NotFusable, match="^configure_optimizers gives some members SGD, others Adam$"):
        StackedOptimizer([SGD(alone[:1], lr=0.1), Adam(alone[1:2], lr=0.1)], stacked)


def test_a_group_without_weights_is_kept() -> None:
    alone = [nn.Parameter(weight) for weight in weights()]
    stacked = nn.Parameter(weights())
    groups = [[{"params": [], "weight_decay": 0.0}, {"params": [weight]}] for weight in alone]
    optimizers = [AdamW(each, lr=rate) for each, rate in zip(groups, RATES, strict=True)]
    optimizer = StackedOptimizer(optimizers, {id(alone[0]): stacked})
    loss(stacked).backward()
    optimizer.step()
    assert optimizer.highest == [[rate, rate] for rate in RATES]
