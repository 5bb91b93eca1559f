"""Members that are fused walk as they walk alone, by each optimizer and with whatever a module adds to it."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from conftest import planned
from test_studies_fusing import assert_same
from test_studies_preflight import INPUTS, LABELS, Blobs, Net
from test_studies_workload import Both, Logging
from torch import nn, optim
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LinearLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC

from lightning_modules.fused.call import NotFusable
from studies import Workload, train
from studies.training.fusing import train_fused

OPTIMIZERS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "SGD": ({"momentum": 0.9, "nesterov": True}, [0.01, 0.1]),
    "Adam": ({}, [0.001, 0.1]),
    "AdamW": ({}, [0.001, 0.1]),
    "RMSprop": ({"centered": True, "momentum": 0.5}, [0.001, 0.01]),
    "Adagrad": ({"lr_decay": 0.01}, [0.01, 0.1]),
    "NAdam": ({}, [0.001, 0.1]),
    "Adamax": ({}, [0.001, 0.1]),
    "RAdam": ({}, [0.001, 0.1]),
    "Adadelta": ({}, [0.1, 1.0]),
}
CASES: dict[str, dict[str, Any]] = {  # options of the Trainer beside each
    "plain": {},
    "groups and schedule": {},
    "weight decay and clipped values": {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"},
    "batch norm and clipped norm": {"gradient_clip_val": 0.3},
    "dropout and one cycle": {},
}


class Optimized(Net):
    """A network, and an optimizer by its name in torch, with what a case adds."""

    def __init__(self, optimizer: str, case: str, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.optimizer, self.case = optimizer, case
        normed = nn.BatchNorm1d(5) if "batch norm" in case else nn.Identity()
        dropped = nn.Dropout(0.3) if "dropout" in case else nn.Identity()
        # Without a bias: the gradient of one before batch norm is a rounding error, which an adaptive optimizer makes a step.
        first = nn.Linear(6, 5, bias=False)
        self.layer = nn.Sequential(first, normed, nn.Tanh(), dropped, nn.Linear(5, 3))  # type: ignore[assignment]

    def configure_optimizers(self) -> Any:
        settings = {**OPTIMIZERS[self.optimizer][0], "lr": self.lr}
        first, *others = self.layer.parameters()
        groups: Any = [first, *others]
        if "groups" in self.case:
            groups = [{"params": [first], "lr": self.lr / 3, "weight_decay": 0.1}, {"params": others}]
        if "weight decay" in self.case:
            settings["weight_decay"] = 0.3
        made = getattr(optim, self.optimizer)(groups, **settings)
        if "schedule" in self.case:
            return [made], [{"scheduler": LinearLR(made, 0.1, 1.0, 10), "interval": "step"}]
        if "one cycle" in self.case:
            moves = {"cycle_momentum": {"momentum", "betas"} & set(made.defaults) != set()}
            schedule = OneCycleLR(made, self.lr, int(self.trainer.estimated_stepping_batches), **moves)
            return [made], [{"scheduler": schedule, "interval": "step"}]
        return made


def workload_of(optimizer: str, case: str) -> Workload:
    return Workload.of(functools.partial(Optimized, optimizer, case), Blobs, CASES[case])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fused_members_walk_thirty_steps_as_alone(optimizer: str, case: str) -> None:
    workload, members = workload_of(optimizer, case), [(rate, seed) for seed, rate in enumerate(OPTIMIZERS[optimizer][1])]
    fused = train_fused(workload, planned(members, 8), epochs=6)
    for one, other in zip(train(workload, members, batch_size=8, epochs=6), fused, strict=True):
        assert one.steps == 30
        assert_same(one, other)


class AtTimes(Net):
    """Has a weight without a gradient in every other epoch, which then is not decayed either; one number, and one complex."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.at_times = nn.Linear(6, 3)
        self.scale, self.turn = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.ones(3, dtype=torch.complex64))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        scores = self.layer(batch[0]) + (self.at_times(batch[0]) if self.current_epoch % 2 else 0.0)
        return cross_entropy((scores * self.turn).real * self.scale, batch[1])

    def configure_optimizers(self) -> Any:
        decayed = [weight for weight in self.parameters() if weight.ndim > 1]
        others = [weight for weight in self.parameters() if weight.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.3}, {"params": []}, {"params": others, "lr": self.lr / 2}]
        return optim.AdamW(groups, lr=self.lr)


@pytest.mark.parametrize("trainer", [{}, {"gradient_clip_val": 0.2}], ids=str)
def test_weights_of_all_kinds_walk_as_alone(trainer: dict[str, Any]) -> None:
    workload, members = Workload.of(AtTimes, Blobs, trainer), [(0.01, 0), (1e30, 1), (0.1, 1)]
    fused = train_fused(workload, planned(members, 8), epochs=6)
    for one, other in zip(train(workload, members, batch_size=8, epochs=6), fused, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_members_at_huge_rates_leave_their_neighbours_as_they_are_to_the_bit(optimizer: str) -> None:
    workload, (low, high) = workload_of(optimizer, "batch norm and clipped norm"), OPTIMIZERS[optimizer][1]
    with_it = train_fused(workload, planned([(low, 0), (1e30, 1), (1e38, 1), (high, 2)], 8), epochs=3)
    without = train_fused(workload, planned([(low, 0), (high, 2)], 8), epochs=3)
    assert [with_it[0].curves, with_it[-1].curves] == [without[0].curves, without[1].curves]


class OnPlateau(Logging):
    """Its learning rate falls where a metric that it logs does not improve by a fifth."""

    def __init__(self, monitor: str = "valid/loss", interval: str = "epoch", frequency: int = 1, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.monitor, self.interval, self.frequency = monitor, interval, frequency

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("last", loss)
        self.log("mean", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = optim.AdamW(self.parameters(), lr=self.lr)
        plateau = ReduceLROnPlateau(optimizer, factor=0.3, patience=0, threshold=0.2)
        how = {"monitor": self.monitor, "interval": self.interval, "frequency": self.frequency}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, **how}}


@pytest.mark.parametrize(("monitor", "every"), [("valid/loss", 1), ("valid/loss", 2), ("last", 1), ("mean", 3)])
def test_schedule_that_looks_at_a_metric_looks_at_each_members_own(monitor: str, every: int) -> None:
    """The member at a rate of 1e30 is soon gone."""
    workload = Workload.of(functools.partial(OnPlateau, monitor, frequency=every), Both, {"check_val_every_n_epoch": every})
    members = [(0.001, 0), (1e30, 1), (0.03, 1), (1.0, 0)]
    fused = train_fused(workload, planned(members, 8), epochs=6)
    for one, other in zip(train(workload, members, batch_size=8, epochs=6), fused, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    ("monitor", "interval", "reason"),
    [
        ("valid/loss_epoch", "epoch", "its learning rate follows valid/loss_epoch, which it does not log"),
        ("valid/loss", "step", "its learning rate follows ReduceLROnPlateau, which looks at one module"),
    ],
)
def test_schedule_that_looks_at_what_members_do_not_have_is_refused(monitor: str, interval: str, reason: str) -> None:
    workload = Workload.of(functools.partial(OnPlateau, monitor, interval), Both)
    with pytest.raises(NotFusable, match=f"^{reason}$"):
        train_fused(workload, planned([(0.1, 0), (0.2, 0)], 8), epochs=2)


class Decaying(Net):
    """Lowers its learning rate by hand."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.optimizers().param_groups[0]["lr"] *= 0.9  # type: ignore[union-attr]
        return super().training_step(batch, batch_idx)


class Bounded(Net):
    """Bounds its gradients as they come."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.layer.weight.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))


@pytest.mark.parametrize(
    ("model", "reason"), [(Decaying, "it sets its optimizer anew itself"), (Bounded, "its weights have hooks")]
)
def test_module_that_meddles_with_its_steps_is_refused(model: type, reason: str) -> None:
    with pytest.raises(NotFusable, match=f"^{reason}$"):
        train_fused(Workload.of(model, Blobs), planned([(0.1, 0), (0.2, 0)], 8), epochs=2)


class Measured(Net):
    """Logs metric objects: fed by ``forward`` and by ``update``, of an epoch of training and of validation."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.accuracy, self.in_training = MulticlassAccuracy(3, average="micro"), MulticlassAccuracy(3)
        self.areas = nn.ModuleDict({"auc": MulticlassAUROC(3)})
        both = {"micro": MulticlassAccuracy(3, average="micro"), "macro": MulticlassAccuracy(3)}  # of one state
        self.both = MetricCollection(both, prefix="valid/acc_")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.in_training.update(self.layer(batch[0]), batch[1])
        self.log("train/acc", self.in_training, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        scores = self.layer(batch[0])
        self.accuracy(scores, batch[1])
        self.areas["auc"](scores.softmax(1), target=batch[1])
        self.log("valid/acc", self.accuracy)
        self.both(scores, batch[1])
        self.log_dict(self.both)
        self.log_dict({"valid/auc_acc": self.areas["auc"], "valid/loss": cross_entropy(scores, batch[1])})


class Parts(Both):
    """Validates on batches of several sizes."""

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(INPUTS, LABELS), 16)


def test_metric_objects_hear_of_their_own_member_alone() -> None:
    workload, members = Workload.of(Measured, Parts), [(0.01, 0), (1e38, 1), (0.3, 1)]
    fused = train_fused(workload, planned(members, 8), epochs=3)
    for one, other in zip(train(workload, members, batch_size=8, epochs=3), fused, strict=True):
        assert_same(one, other)
    assert {"train_acc", "val_acc", "val_auc_acc", "val_acc_micro", "val_acc_macro"} <= fused[0].curves.keys()
    assert fused[0].curves["val_acc"] != fused[2].curves["val_acc"]


class OfEachBatch(Measured):
    """Logs what a metric object gives for a batch."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("valid/acc", self.accuracy(self.layer(batch[0]), batch[1]))


class OfEachStep(Measured):
    """Logs a metric object as Lightning does where nothing is said."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.in_training(self.layer(batch[0]), batch[1])
        self.log("train/acc", self.in_training)
        return Net.training_step(self, batch, batch_idx)


class Largest(Net):
    """Logs the largest value of an epoch."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("valid/loss", cross_entropy(self.layer(batch[0]), batch[1]), reduce_fx="max")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (OfEachBatch, "it logs 'valid/acc', the value of a metric object for each batch"),
        (OfEachStep, "it logs 'train/acc', the value of a metric object for each batch"),
        (Largest, "it logs 'valid/loss' with a reduce_fx"),
    ],
)
def test_module_that_logs_what_is_not_known_of_a_member_is_refused(model: type, reason: str) -> None:
    with pytest.raises(NotFusable, match=f"^{reason}$"):
        train_fused(Workload.of(model, Parts), planned([(0.1, 0), (0.2, 0)], 8), epochs=2)


def test_module_whose_height_is_a_metric_object_is_refused() -> None:
    workload = Workload.of(Measured, Parts, monitor="train/acc", mode="max")
    with pytest.raises(NotFusable, match="^its height is train/acc, a metric object$"):
        train_fused(workload, planned([(0.1, 0), (0.2, 0)], 8), epochs=2)
