"""Stacked SGD against one ``torch.optim.SGD`` a member: the same weights at every step, whoever leaves the stack on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, StepLR

from lightning_modules.fused.stacked_sgd import StackedScheduler, StackedSGD

RATES, GAMMAS = (0.1, 0.2, 0.3), (0.5, 0.25, 0.1)  # of three members, each on a schedule of its own
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "dampening": {"momentum": 0.9, "dampening": 0.3},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "weight decay": {"weight_decay": 0.1},
    "weight decay and momentum": {"weight_decay": 0.1, "momentum": 0.9},
    "maximize": {"maximize": True, "momentum": 0.9},
}
options = pytest.mark.parametrize("name", OPTIONS)


def weights() -> Tensor:
    """A weight of each member, shape (3, 2, 4)."""
    return torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))


def members(**settings: Any) -> tuple[list[nn.Parameter], list[SGD], list[LRScheduler]]:
    alone = [nn.Parameter(weight.clone()) for weight in weights()]
    optimizers = [SGD([weight], lr=rate, **settings) for weight, rate in zip(alone, RATES, strict=True)]
    return alone, optimizers, [StepLR(each, 1, gamma) for each, gamma in zip(optimizers, GAMMAS, strict=True)]


def stack(**settings: Any) -> tuple[nn.Parameter, StackedSGD, StackedScheduler]:
    alone, optimizers, schedules = members(**settings)
    stacked = nn.Parameter(weights())
    optimizer = StackedSGD(optimizers, {id(alone[0]): stacked})
    return stacked, optimizer, StackedScheduler(optimizer, schedules)


def loss(weight: Tensor) -> Tensor:
    """Other gradients at every step and for every value."""
    return (weight.sin() * torch.arange(1.0, 5.0)).sum()


def step(weight: Tensor, optimizer: torch.optim.Optimizer, schedule: LRScheduler, *, to_none: bool = True) -> None:
    optimizer.zero_grad(set_to_none=to_none)
    loss(weight).backward()
    optimizer.step()
    schedule.step()


def alone_after(steps: int, **settings: Any) -> Tensor:
    """Weights of all members, each trained by torch alone, shape (3, 2, 4)."""
    found, optimizers, schedules = members(**settings)
    for weight, optimizer, schedule in zip(found, optimizers, schedules, strict=True):
        for _ in range(steps):
            step(weight, optimizer, schedule)
    return torch.stack([weight.detach() for weight in found])


def leave(weight: nn.Parameter, optimizer: StackedSGD, places: Sequence[int]) -> None:
    weight.data, weight.grad = weight.data[list(places)], None
    optimizer.keep(places)


@options
@pytest.mark.parametrize("to_none", [True, False], ids=["gradients set to None", "gradients set to 0"])
def test_every_member_steps_as_its_own_optimizer_would(name: str, to_none: bool) -> None:
    """Gradients set to 0 are the same tensors at every step, so that the momentum must not be kept in them."""
    weight, optimizer, schedule = stack(**OPTIONS[name])
    for _ in range(4):
        step(weight, optimizer, schedule, to_none=to_none)
    torch.testing.assert_close(weight.detach(), alone_after(4, **OPTIONS[name]))


@options
@pytest.mark.parametrize("places", [[0, 2], [2, 0], [1, 1]], ids=str)
def test_members_that_are_left_keep_their_learning_rates_schedules_and_momentum(name: str, places: list[int]) -> None:
    """One that was left alone stands in the stack twice."""
    weight, optimizer, schedule = stack(**OPTIONS[name])
    for number in range(4):
        if number == 2:
            leave(weight, optimizer, places)
        step(weight, optimizer, schedule)
        rates = [RATES[place] * GAMMAS[place] ** (number + 1) for place in (places if number >= 2 else range(3))]
        assert optimizer.param_groups[0]["rates"].tolist() == pytest.approx(rates)
    torch.testing.assert_close(weight.detach(), alone_after(4, **OPTIONS[name])[places])


def test_member_that_leaves_before_the_schedule_steps_takes_its_learning_rate_with_it() -> None:
    weight, optimizer, _ = stack()
    leave(weight, optimizer, [2, 0])
    assert optimizer.param_groups[0]["rates"].tolist() == pytest.approx([0.3, 0.1])


def test_highest_learning_rates_are_of_the_steps_that_were_made_and_stay_with_their_members() -> None:
    """The schedules rise; the one in the middle leaves after the first step, and nothing steps with the last rates."""
    alone, optimizers, _ = members()
    rising: list[LRScheduler] = [StepLR(each, 1, gamma) for each, gamma in zip(optimizers, (2.0, 3.0, 4.0), strict=True)]
    weight = nn.Parameter(weights())
    optimizer = StackedSGD(optimizers, {id(alone[0]): weight})
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
