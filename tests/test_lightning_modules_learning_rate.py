"""The learning rate is set where the module keeps it, or in its optimizers by ratio; schedules keep their shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import SGD, Adam, Optimizer
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.learning_rate import LearningRate, Proportions, base_rate, get_attribute, set_attribute

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # where there are more than two CPUs
    pytest.mark.filterwarnings("ignore:.*the keys will be ignored. You need to call"),  # one schedule for both ways to optimise
]
EPOCHS, PER_EPOCH = 3, 4
NAMES = ("lr", "learning_rate")


class Module(pl.LightningModule):
    """Has no learning rate."""


class Attribute(pl.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr


class Hparams(pl.LightningModule):
    def __init__(self, learning_rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()


class Both(pl.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr


class Data(pl.LightningDataModule):
    def __init__(self, learning_rate: float = 0.1) -> None:
        super().__init__()
        self.learning_rate = learning_rate


class ReadOnly(pl.LightningModule):
    @property
    def lr(self) -> float:
        return 0.3


class Computed(pl.LightningModule):
    """A property that says where it is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"lr": 0.3})

    @property
    def lr(self) -> float:
        return float(self.hparams["lr"])


class Method(pl.LightningModule):
    def lr(self) -> float:
        return 0.3


class Buffer(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lr", torch.tensor(0.3))


@pytest.mark.parametrize(
    ("owners", "found"),
    [
        ([Attribute(), None], ["lr"]),
        ([Hparams(), None], ["learning_rate"]),
        ([Both(), None], ["lr"]),
        ([Module(), Data()], ["learning_rate"]),
        ([Attribute(), Data()], ["lr", "learning_rate"]),
        ([Module(), None], []),
        ([ReadOnly(), None], []),
        ([Computed(), None], ["lr"]),
        ([Method(), None], []),
        ([Buffer(), None], []),
    ],
    ids=lambda value: "-".join(type(each).__name__ for each in value) if value and not isinstance(value[0], str) else "",
)
def test_the_learning_rate_is_set_wherever_it_can_be(owners: list[Any], found: list[str]) -> None:
    assert set_attribute(owners, NAMES, 0.7) == found
    if found:
        assert get_attribute(owners, NAMES) == 0.7
    for owner in owners:
        for holder in (owner, getattr(owner, "hparams", None)):
            for name in NAMES:
                value = holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)
                assert value is None or not isinstance(value, float) or value == 0.7 or isinstance(owner, ReadOnly)
    assert isinstance(owners[0], Method) == callable(getattr(owners[0], "lr", None))


def test_the_first_name_that_holds_something_is_the_learning_rate() -> None:
    assert get_attribute([Attribute(0.2), Data(0.4)], NAMES) == 0.2
    assert get_attribute([Attribute(0.2), Data(0.4)], ("learning_rate", "lr")) == 0.4
    assert get_attribute([Hparams(0.5), None], NAMES) == 0.5
    assert get_attribute([Module(), None], NAMES) is None
    assert get_attribute([Method(), None], NAMES) is None
    holder = Attribute(0.2)
    holder.lr = None  # type: ignore[assignment]
    assert get_attribute([holder, Data(0.4)], NAMES) == 0.4


@pytest.mark.parametrize(
    ("rates", "attribute", "twice", "learning_rate", "followed"),
    [
        ([0.1], 0.1, [0.2], 0.1, True),  # follows the attribute
        ([0.001, 0.1], 0.1, [0.002, 0.2], 0.1, True),  # layer by layer
        ([0.4, 0.1], 0.1, [0.8, 0.2], 0.1, True),
        ([0.0, 0.1], 0.1, [0.0, 0.2], 0.1, True),  # a group that stands still
        ([0.1], 0.3, [0.1], 0.1, False),  # has the attribute, ignores it
        ([0.1, 0.01], None, None, 0.1, False),  # has none
        ([0.0, 0.01], None, None, 0.01, False),
        ([0.0], None, None, 1.0, False),  # nothing to scale
        ([0.1, 0.001], 0.1, [0.2, 0.001], 0.1, False),  # the head follows, the backbone is fixed
        ([0.001, 0.1], 0.1, [0.001, 0.2], 0.1, False),
        ([0.04], 0.2, [0.16], 0.2, False),  # not in proportion: its square
        ([0.1], 0.1, [0.12], 0.1, False),  # grows too little, as below a floor
        ([0.1], 0.1, [0.28], 0.1, False),  # and too much
        ([0.1, 0.1], 0.1, [0.2, 0.19], 0.1, False),  # one of two, a little
        ([0.1], 0.1, [0.20001], 0.1, False),
        ([0.1], 0.1, [0.20000001], 0.1, True),  # but for rounding
    ],
)
def test_proportions_are_read_off_two_values_of_the_attribute(
    rates: list[float], attribute: float | None, twice: list[float] | None, learning_rate: float, followed: bool
) -> None:
    expected = Proportions(rates=tuple(rates), learning_rate=learning_rate, followed=followed)
    assert Proportions.of(rates, attribute=attribute, twice=twice) == expected


class Fitted(pl.LightningModule):
    """Three layers, and whatever optimizers ``make`` gives for them."""

    def __init__(self, make: Callable[[Any], Any], lr: float = 0.1) -> None:
        super().__init__()
        self.make, self.lr = make, lr
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs = batch[0]
        for layer in self.layers:
            inputs = layer(inputs)
        loss = mse_loss(inputs, batch[0])
        self.log("constant", 1.0, on_step=False, on_epoch=True)  # that a plateau is reached
        return loss

    def configure_optimizers(self) -> Any:
        return self.make(self)

    def groups(self, *rates: float) -> list[dict[str, Any]]:
        return [{"params": layer.parameters(), "lr": rate} for layer, rate in zip(self.layers, rates, strict=False)]


class Manual(Fitted):
    """Steps its optimizers and schedulers itself."""

    def __init__(self, make: Callable[[Any], Any], lr: float = 0.1) -> None:
        super().__init__(make, lr)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        optimizers, steppers = self.optimizers(), self.lr_schedulers()
        self.manual_backward(loss)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.step()
            optimizer.zero_grad()
        for scheduler in steppers if isinstance(steppers, list) else [steppers] if steppers else []:
            if isinstance(scheduler, schedulers.ReduceLROnPlateau):
                scheduler.step(1.0)
            else:
                scheduler.step()
        return loss


class Rates(pl.Callback):
    """The learning rate of every group in every step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.rates.append([group["lr"] for each in trainer.optimizers for group in each.param_groups])


def rates_of(module: pl.LightningModule, callback: LearningRate | None = None) -> list[list[float]]:
    rates = Rates()
    data = DataLoader(TensorDataset(torch.ones(PER_EPOCH, 2)), 1)
    pl.Trainer(**QUIET, max_epochs=EPOCHS, callbacks=[*([callback] if callback else []), rates]).fit(module, data)
    assert len(rates.rates) == EPOCHS * PER_EPOCH
    return rates.rates


def untouched(module: Fitted) -> list[float]:
    made = module.configure_optimizers()
    optimizers = made[0] if isinstance(made, tuple) else [made["optimizer"] if isinstance(made, dict) else made]
    return [base_rate(group) for optimizer in optimizers for group in optimizer.param_groups]


def proportions(kind: type[Fitted], make: Callable[[Any], Any]) -> Proportions:
    return Proportions.of(untouched(kind(make, 0.1)), attribute=0.1, twice=untouched(kind(make, 0.2)))


def of_two(scheduler: Callable[[Optimizer], Any], **options: Any) -> Callable[[Any], Any]:
    """One optimizer of two groups, at 0.1 and 0.02, whose scheduler steps with every batch; it ignores the attribute."""

    def make(module: Fitted) -> Any:
        optimizer = SGD(module.groups(0.1, 0.02), momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler(optimizer), "interval": "step"} | options}

    return make


def in_turn(optimizer: Optimizer) -> Any:
    parts = [schedulers.LinearLR(optimizer, 0.25, total_iters=4), schedulers.CosineAnnealingLR(optimizer, 6, eta_min=0.004)]
    return schedulers.SequentialLR(optimizer, parts, milestones=[4])


def chained(optimizer: Optimizer) -> Any:
    return schedulers.ChainedScheduler([schedulers.ConstantLR(optimizer, 0.5, 3), schedulers.ExponentialLR(optimizer, 0.9)])


def nested(optimizer: Optimizer) -> Any:
    return schedulers.ChainedScheduler([in_turn(optimizer), schedulers.ExponentialLR(optimizer, 0.9)])


S = schedulers
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "none": lambda module: SGD(module.groups(0.1, 0.02)),
    "StepLR": of_two(lambda o: S.StepLR(o, 4, 0.5)),
    "MultiStepLR": of_two(lambda o: S.MultiStepLR(o, [2, 7], 0.1)),
    "ConstantLR": of_two(lambda o: S.ConstantLR(o, 0.1, 5)),
    "LinearLR": of_two(lambda o: S.LinearLR(o, 0.01, total_iters=6)),
    "ExponentialLR": of_two(lambda o: S.ExponentialLR(o, 0.8)),
    "PolynomialLR": of_two(lambda o: S.PolynomialLR(o, 9, power=2)),
    "MultiplicativeLR": of_two(lambda o: S.MultiplicativeLR(o, lambda step: 0.9)),
    "CosineAnnealingLR": of_two(lambda o: S.CosineAnnealingLR(o, 8, eta_min=0.005)),
    "CosineAnnealingWarmRestarts": of_two(lambda o: S.CosineAnnealingWarmRestarts(o, 5, eta_min=0.005)),
    "OneCycleLR": of_two(lambda o: S.OneCycleLR(o, [0.1, 0.02], total_steps=13)),
    "OneCycleLR in three phases": of_two(lambda o: S.OneCycleLR(o, 0.1, total_steps=13, three_phase=True)),
    "CyclicLR": of_two(lambda o: S.CyclicLR(o, [0.01, 0.02], [0.1, 0.3], step_size_up=3, mode="triangular2")),
    "LambdaLR warming up from 0": of_two(lambda o: S.LambdaLR(o, lambda step: min(1.0, step / 5))),
    "SequentialLR": of_two(in_turn),
    "ChainedScheduler": of_two(chained),
    "schedulers inside schedulers": of_two(nested),
    "SWALR": of_two(lambda o: SWALR(o, [0.05, 0.04], anneal_epochs=6)),
    "ReduceLROnPlateau": of_two(
        lambda o: S.ReduceLROnPlateau(o, factor=0.3, patience=0, min_lr=[0.02, 0.01]), interval="epoch", monitor="constant"
    ),
    "ReduceLROnPlateau with one floor": of_two(
        lambda o: S.ReduceLROnPlateau(o, factor=0.1, patience=0, min_lr=0.015), interval="epoch", monitor="constant"
    ),
    "two optimizers, two schedulers": lambda module: (
        pair := [Adam(module.groups(0.1, 0.02)), SGD(module.layers[2].parameters(), 0.5)],
        [S.StepLR(pair[0], 1, 0.5), S.OneCycleLR(pair[1], 0.5, total_steps=13)],
    ),
}
schedules = pytest.mark.parametrize("name", SCHEDULES)
fitted = pytest.mark.parametrize("kind", [Fitted, Manual], ids=["automatic", "manual"])


def kind_for(name: str, kind: type[Fitted]) -> type[Fitted]:
    return Manual if name.startswith("two optimizers") else kind  # Lightning optimises one automatically


@schedules
@fitted
def test_a_scaled_fit_has_the_schedule_of_the_unscaled_one_times_the_factor(name: str, kind: type[Fitted]) -> None:
    kind, make = kind_for(name, kind), SCHEDULES[name]
    shares = proportions(kind, make)
    plain = rates_of(kind(make))
    assert name == "none" or len({tuple(rates) for rates in plain}) > 1
    for factor in (0.03, 7):
        callback = LearningRate(factor * shares.learning_rate, shares)
        scaled = rates_of(kind(make), callback)
        assert scaled == [pytest.approx([factor * rate for rate in rates], rel=1e-6) for rates in plain]
        assert callback.rates == pytest.approx([factor * rate for rate in shares.rates])


@schedules
@fitted
def test_constant_is_one_learning_rate_all_along_whatever_the_schedule_began_with(name: str, kind: type[Fitted]) -> None:
    kind, make = kind_for(name, kind), SCHEDULES[name]
    shares = proportions(kind, make)
    factor = 3.0
    expected = [factor * rate for rate in shares.rates]
    callback = LearningRate(factor * shares.learning_rate, shares, constant=True)
    rates = rates_of(kind(make), callback)
    assert rates == [pytest.approx(expected)] * len(rates)
    assert callback.rates == pytest.approx(expected)


@pytest.mark.parametrize("constant", [False, True])
def test_without_proportions_the_optimizers_are_the_modules_own(constant: bool) -> None:
    make = SCHEDULES["OneCycleLR"]
    callback = LearningRate(0.7, None, constant=constant)
    rates = rates_of(Fitted(make), callback)
    assert rates == ([[0.1, 0.02]] * len(rates) if constant else rates_of(Fitted(make)))
    assert callback.rates == [0.1, 0.02]


def layers(*ratios: float) -> Callable[[Any], Any]:
    return lambda module: SGD(module.groups(*(ratio * module.lr for ratio in ratios)), lr=0.0)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (layers(0.01, 0.1, 1), [0.005, 0.05, 0.5]),  # layer by layer, all follow
        (layers(0, 1), [0, 0.5]),
        (lambda module: SGD(module.groups(0.001, module.lr)), [0.005, 0.5]),  # the backbone is fixed, the head follows
        (lambda module: SGD(module.groups(module.lr, 0.001)), [0.5, 0.005]),
        (lambda module: SGD(module.groups(0.02, 0.01)), [0.5, 0.25]),  # ignores the attribute: the first group has the rate
        (lambda module: SGD(module.groups(0.0, 0.02, 0.01)), [0, 0.5, 0.25]),
        (lambda module: SGD(module.groups(module.lr**2)), [0.05]),
        (lambda module: SGD(module.groups(module.lr, 0.02 + module.lr / 2)), [0.5, 0.35]),  # the second grows by 1.71
    ],
    ids=["layers", "frozen layer", "fixed backbone", "fixed head", "ignored", "ignored, first group 0", "square", "offset"],
)
def test_groups_keep_their_proportions_of_the_untouched_module(make: Callable[[Any], Any], expected: Sequence[float]) -> None:
    shares = proportions(Fitted, make)
    module = Fitted(make)
    set_attribute([module], NAMES, 0.5)  # as a study does before a fit
    callback = LearningRate(0.5, shares)
    rates = rates_of(module, callback)
    assert rates == [pytest.approx(expected)] * len(rates)
    assert callback.rates == pytest.approx(expected)


def test_a_module_that_asks_for_its_schedulers_finds_them_where_the_rate_is_constant() -> None:
    seen = []

    class Asking(Fitted):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            scheduler: Any = self.lr_schedulers()
            seen.append((isinstance(scheduler, schedulers.StepLR), scheduler.gamma))
            return super().training_step(batch, batch_idx)  # type: ignore[no-any-return]

    make = SCHEDULES["StepLR"]
    rates = rates_of(Asking(make), LearningRate(0.3, proportions(Asking, make), constant=True))
    assert rates == [pytest.approx([0.3, 0.06])] * len(rates)
    assert seen == [(True, 0.5)] * len(rates)


def test_constant_needs_no_metric_for_a_plateau() -> None:
    make = of_two(lambda o: schedulers.ReduceLROnPlateau(o), interval="epoch", monitor="never logged")
    rates = rates_of(Fitted(make), LearningRate(0.3, proportions(Fitted, make), constant=True))
    assert rates == [pytest.approx([0.3, 0.06])] * len(rates)


@pytest.mark.parametrize("constant", [False, True])
def test_a_scheduler_that_is_not_torchs_finds_its_groups_scaled(constant: bool) -> None:
    class Halving:
        """Halves every rate, in its own way."""

        def __init__(self, optimizer: Optimizer) -> None:
            self.optimizer = optimizer

        def step_all(self) -> None:
            for group in self.optimizer.param_groups:
                group["lr"] /= 2

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            pass

        step = step_all

    class Stepping(Fitted):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            scheduler.step_all()

    make = of_two(Halving)
    rates = rates_of(Stepping(make), LearningRate(0.4, proportions(Stepping, make), constant=constant))
    by = [1.0 if constant else 0.5**step for step in range(len(rates))]
    assert rates == [pytest.approx([0.4 * each, 0.08 * each]) for each in by]
