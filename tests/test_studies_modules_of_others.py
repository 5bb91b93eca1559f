"""Modules and data that others built, in situations that users of learning-rate tools report: an answer or a sentence."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET
from pytorch_lightning.callbacks import EarlyStopping, LearningRateFinder, StochasticWeightAveraging
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from reports import Judged
from studies import StudyConfig, Workload, judge_study, lr_find, run_study
from studies.training.runs import train

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.training_step. returned .None."),
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
    pytest.mark.filterwarnings("ignore:Swapping scheduler"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def blobs(n: int = 240) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres, labels = torch.randn(3, 6, generator=generator) * 1.5, torch.randint(0, 3, (n,), generator=generator)
    return centres[labels] + torch.randn(n, 6, generator=generator), labels


class Net(pl.LightningModule):
    """A classifier; the others change what they need."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.net: nn.Module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Blobs(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*blobs()), self.batch_size, shuffle=True)


def config(folder: Path, model: Any, data: Any = Blobs, **options: Any) -> StudyConfig:
    given = {"learning_rate": (1e-3, 10), "points": 4, "batch_size": 16, "seeds": 1, "epochs": 3, "workers": 1, "name": "s"}
    return StudyConfig(model=model, data=data, storage=str(folder / "s.db"), **given | options)


def study(folder: Path, model: Any, data: Any = Blobs, **options: Any) -> Judged:
    return judge_study(run_study(config(folder, model, data, **options)))


def verdicts(judged: Judged) -> list[str]:
    return judged.cells["verdict"].tolist()


USUAL = ["too low", "good"]  # of 0.001 and one of the next


# ---- the learning rate that was stepped with ----


class Rising(LRScheduler):
    """Goes to a learning rate of its own after a few steps."""

    def get_lr(self) -> list[float]:
        return [rate if self.last_epoch < 5 else 0.02 for rate in self.base_lrs]


class OwnPeak(Net):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": Rising(optimizer), "interval": "step"}]


def test_a_schedule_with_a_rate_of_its_own_is_refused_by_name_before_training(tmp_path: Path) -> None:
    sentence = r"not the one asked for: Rising.get_lr \(.*\) goes up to 0.02 where 0.001 is asked for and to 10 where"
    with pytest.raises(ValueError, match=sentence):
        study(tmp_path, OwnPeak)
    assert not (tmp_path / "s.db").exists()
    assert verdicts(study(tmp_path, OwnPeak, constant=True))[0] == "too low"


class Later(Net):
    """Steps with a rate of its own after some steps, where no dry run shows it."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.lr if self.global_step < 10 else 0.05
        optimizer.step(closure=closure)


class Capped(Net):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
        for group in optimizer.param_groups:
            group["lr"] = min(self.lr, 0.3) if self.global_step > 10 else 1e-3 * self.lr
        optimizer.step(closure=closure)


def test_runs_that_did_not_step_with_what_was_asked_get_no_verdict(tmp_path: Path) -> None:
    judged = study(tmp_path, Capped, points=5)
    runs = judged.runs.set_index("learning_rate")
    assert runs["highest_learning_rates"].tolist() == ["0.001", "0.01", "0.1", "0.3", "0.3"]
    assert runs["verdict"].notna().tolist() == [True, True, True, False, False]
    assert "no verdict" in runs["reason"][10.0] and "0.3" in runs["reason"][10.0]
    assert judged.cells["learning_rate"].tolist() == [0.001, 0.01, 0.1]


def test_where_no_run_stepped_with_what_was_asked_nothing_is_recommended(tmp_path: Path) -> None:
    judged = study(tmp_path, Later, learning_rate=(1e-3, 0.04), points=4)
    assert judged.runs["highest_learning_rates"].tolist() == ["0.05"] * 4
    assert judged.runs["verdict"].isna().all() and judged.recommendations.empty


class Averaging(Net):
    """Its callbacks are its own."""

    def configure_callbacks(self) -> Any:
        return [LearningRateFinder()]


@pytest.mark.parametrize(
    ("model", "trainer"),
    [
        (Net, {"callbacks": "LearningRateFinder"}),
        (Net, {"callbacks": [{"class_path": "pytorch_lightning.callbacks.BatchSizeFinder"}]}),
        (Averaging, {}),
    ],
    ids=["by name", "by spec", "of the module"],
)
def test_finders_among_the_callbacks_are_refused(model: Any, trainer: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trainer.callbacks must leave the (learning rate|batch size) to the study, got"):
        study(tmp_path, model, trainer=trainer)


def test_with_weight_averaging_at_a_rate_of_its_own_the_runs_it_left_alone_are_judged(tmp_path: Path) -> None:
    averaging = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2, annealing_epochs=1)
    judged = study(tmp_path, Net, trainer={"callbacks": [averaging]}, epochs=4, points=5)
    assert judged.runs["verdict"].isna().tolist()[:4] == [True, True, False, False]


# ---- typical batches ----


class Margin(Net):
    """A hinge that the first batches, all alike, do not touch; every second batch is skipped."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx % 2:
            return None
        loss = super().training_step(batch, batch_idx)
        return loss if batch_idx > 3 else 0 * loss


def test_first_batches_without_gradient_or_that_are_skipped_are_no_fault(tmp_path: Path) -> None:
    assert verdicts(study(tmp_path, Margin))[0] == "too low"


class NeverAny(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if self.training and torch.is_grad_enabled() else loss


def test_a_module_that_skips_every_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"NeverAny.training_step \(.*\) must return the loss, got None in 16 batches"):
        study(tmp_path, NeverAny)


class WarmUpFromZero(Net):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, self.global_step / 4)
        optimizer.step(closure=closure)


def test_warm_up_from_zero_by_hand_is_no_fault(tmp_path: Path) -> None:
    judged = study(tmp_path, WarmUpFromZero)
    assert verdicts(judged)[0] == "too low" and "good" in verdicts(judged)


class Lazy(Net):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.net = nn.Sequential(nn.LazyConv1d(4, 3), nn.Flatten(), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step((batch[0][:, None], batch[1]), batch_idx)


def test_lazy_layers_start_from_weights_that_belong_to_the_seed() -> None:
    runs = train(Workload.of(Lazy, Blobs), [(0.01, 0), (0.1, 0), (0.01, 1)], batch_size=16, epochs=1)
    first = [run.first_height for run in runs]
    assert first[0] == first[1] != first[2]


class Dropping(Blobs):
    """Its collate function leaves out what it cannot use."""

    def train_dataloader(self) -> Any:
        def collate(examples: Any) -> Any:
            kept = [(x, y) for x, y in examples if x[0] > -1]
            return torch.stack([x for x, _ in kept]), torch.stack([y for _, y in kept])

        return DataLoader(TensorDataset(*blobs()), self.batch_size, shuffle=True, collate_fn=collate)


def test_batches_that_a_collate_function_makes_smaller_are_studied_and_told(tmp_path: Path) -> None:
    judged = study(tmp_path, Net, Dropping, batch_size=[8, 16])
    assert judged.remarks == [next(filter(lambda r: r.startswith("batches hold"), judged.remarks))]
    assert " examples, " in judged.remarks[0] and "on average, at batch size 16" in judged.remarks[0]
    assert judged.runs["examples"].max() == 507


class Lengths(Dataset[Tensor]):
    def __len__(self) -> int:
        return 120

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((3 + index % 9,), index % 2 + 1)


class ByTokens:
    """Batches of as many sentences as hold 40 tokens."""

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in torch.randperm(120).tolist():
            if sum(3 + i % 9 for i in batch) > 40:
                yield batch
                batch = []
            batch.append(index)

    def __len__(self) -> int:
        return 16


class Sentences(Net):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.net = nn.Sequential(nn.EmbeddingBag(3, 6, padding_idx=0), nn.Linear(6, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch), batch[:, 0] - 1)

    def train_dataloader(self) -> Any:
        pad = nn.utils.rnn.pad_sequence
        return DataLoader(Lengths(), batch_sampler=ByTokens(), collate_fn=lambda xs: pad(xs, batch_first=True))  # type: ignore[arg-type]


def test_batches_of_as_many_as_fit_are_studied_at_one_size_and_refused_at_several(tmp_path: Path) -> None:
    judged = study(tmp_path, Sentences, None, batch_size=6)
    assert any("on average, at batch size 6" in remark for remark in judged.remarks)
    with pytest.raises(ValueError, match="batch_size has no effect: Sentences.train_dataloader"):
        study(tmp_path, Sentences, None, batch_size=[4, 8], name="several")


# ---- what a batch is ----


class Bag:
    """A batch of its own kind: it says nothing but its tensors."""

    def __init__(self, y: Tensor, x: Tensor) -> None:
        self.name, self.y, self.x = "bag", y, x

    def to(self, *args: Any, **kwargs: Any) -> Bag:
        return Bag(self.y.to(*args, **kwargs), self.x.to(*args, **kwargs))


class Bags(Blobs):
    def train_dataloader(self) -> Any:
        def collate(examples: Any) -> Bag:
            return Bag(torch.stack([y for _, y in examples]), torch.stack([x for x, _ in examples]))

        return DataLoader(TensorDataset(*blobs()), self.batch_size, shuffle=True, collate_fn=collate)


class OfBags(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch.x), batch.y)


def test_batches_that_are_objects_are_studied_at_several_sizes(tmp_path: Path) -> None:
    judged = study(tmp_path, OfBags, Bags, batch_size=[8, 24])
    assert judged.runs.groupby("batch_size")["steps"].first().to_dict() == {8: 90, 24: 30}
    assert "good" in verdicts(judged)


SEEN: set[tuple[int, int]] = set()


class TwoStreams(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        (x, y), (u, _) = batch
        if self.training:
            SEEN.add((len(x), len(u)))
        return super().training_step((x, y), batch_idx) + 0.1 * self.net(u).square().mean()

    def train_dataloader(self) -> Any:
        return [DataLoader(TensorDataset(*blobs()), 4), DataLoader(TensorDataset(*blobs()), 12)]


def test_several_loaders_keep_their_proportion_at_each_batch_size(tmp_path: Path) -> None:
    SEEN.clear()
    study(tmp_path, TwoStreams, None, batch_size=8, points=2)
    assert SEEN == {(8, 24)}
    SEEN.clear()
    lr_find(pl.Trainer(**QUIET, max_epochs=1), TwoStreams(), num_training=2, seeds=1)
    assert SEEN == {(4, 12)}


# ---- where the learning rate is ----


class InGroups(Net):
    def __init__(self) -> None:
        super().__init__()
        del self.lr
        self.save_hyperparameters({"lr": {"head": 0.1, "body": [0.01, 0.05]}})

    def configure_optimizers(self) -> Any:
        rates = self.hparams["lr"]
        first, _, last = self.net  # type: ignore[misc]
        groups = [{"params": last.parameters(), "lr": rates["head"]}, {"params": first.weight, "lr": rates["body"][0]}]
        return torch.optim.SGD([*groups, {"params": first.bias, "lr": rates["body"][1]}], lr=1.0)


def test_rates_in_a_mapping_of_lists_keep_their_proportions(tmp_path: Path) -> None:
    judged = study(tmp_path, InGroups, learning_rate=(0.01, 1), points=2)
    assert judged.runs["highest_learning_rates"].tolist() == ["0.01; 0.001; 0.005", "1; 0.1; 0.5"]


class Configured(Net):
    """Steps with the rate it finds deep in its configuration."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        del self.lr
        self.cfg = cfg

    def rate(self) -> float:
        return float(self.cfg.optim.lr)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate())


class ConfiguredByName(Configured):
    def rate(self) -> float:
        return float(self.cfg["optims"][1]["lr"])


@pytest.mark.parametrize(
    ("model", "path", "cfg"),
    [
        (Configured, "cfg.optim.lr", SimpleNamespace(optim=argparse.Namespace(lr=0.3))),
        (ConfiguredByName, "cfg.optims.1.lr", {"optims": [{"lr": 9.0}, {"lr": 0.3}]}),
    ],
    ids=["namespaces", "mappings and lists"],
)
def test_a_path_leads_to_the_rate_and_what_is_shared_stays_as_it_was(model: Any, path: str, cfg: Any, tmp_path: Path) -> None:
    before = repr(cfg)
    judged = study(tmp_path, lambda: model(cfg), learning_rate_name=path, learning_rate=(0.01, 1), points=2)
    assert judged.runs["highest_learning_rates"].tolist() == ["0.01", "1"]
    assert repr(cfg) == before
    with pytest.raises(ValueError, match="learning_rate_name must be an attribute of the module, .* has no 'cfg.optim.rate'"):
        study(tmp_path, lambda: model(cfg), learning_rate_name="cfg.optim.rate", name="other")


# ---- lengths ----


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        inputs, labels = blobs()
        while True:
            yield from zip(inputs, labels, strict=True)


class EndlessData(Blobs):
    def train_dataloader(self) -> Any:
        return DataLoader(Endless(), self.batch_size)


def test_an_endless_stream_needs_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.training.fixed.MOST_COUNTED", 100)
    sentence = r"EndlessData.train_dataloader \(.*\) gives batches without end, 100 so far: say .* trainer.limit_train_"
    with pytest.raises(ValueError, match=sentence):
        study(tmp_path, Net, EndlessData)
    limited = study(tmp_path, Net, EndlessData, trainer={"limit_train_batches": 10}, name="limited")
    assert limited.runs["steps"].max() == 30


@pytest.mark.parametrize(("given", "steps"), [({"max_steps": 20}, 20), ({"max_steps": 20, "max_epochs": 1}, 15)])
def test_max_steps_limits_a_run_as_it_would_the_users(given: dict[str, Any], steps: int, tmp_path: Path) -> None:
    options = {"epochs": None, "points": 2, "learning_rate": (0.01, 0.1)}
    judged = study(tmp_path, Net, trainer=given, **options)
    assert (judged.runs["steps"] == steps).all() and judged.runs["ended_early"].isna().all()
    assert judged.curves.query("metric == 'height'").groupby("trial")["step"].max().tolist() == [steps] * 2
    found = lr_find(pl.Trainer(**QUIET, **given), Net(), datamodule=Blobs(), num_training=2, seeds=1)
    assert (found.judged.runs["steps"] == steps).all()
    if "max_epochs" not in given:
        stream = study(tmp_path, Net, EndlessData, trainer=given, name="stream", **options)
        assert (stream.runs["steps"] == 20).all()


class ForFewerSteps(Net):
    """Its schedule was made for as many steps as batches of 16 make in two epochs."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": OneCycleLR(optimizer, self.lr, total_steps=30), "interval": "step"}]


def test_a_schedule_too_short_for_all_is_refused_and_for_one_batch_size_leaves_that_out(tmp_path: Path) -> None:
    remedy = r"OneCycleLR was made for a run of another length \(Tried to step .*\): make it for self"
    with pytest.raises(ValueError, match=remedy):
        study(tmp_path, ForFewerSteps)
    judged = study(tmp_path, ForFewerSteps, batch_size=[8, 16], epochs=2)
    states = judged.runs.groupby("batch_size")["state"].agg(list).to_dict()
    assert states == {8: ["FAIL"], 16: ["COMPLETE"] * 4}
    assert any(remark.startswith("runs at batch size 8 fail: ") and "constant" in remark for remark in judged.remarks)
    failed = judged.runs.query("state == 'FAIL'")["error"].iloc[0]
    assert "made for a run of another length" in failed and "or leave schedules out with constant" in failed
    assert verdicts(study(tmp_path, ForFewerSteps, constant=True, name="constant"))[0] == "too low"


class WarmUp(Net):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / self.trainer.estimated_stepping_batches))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def test_a_warm_up_for_the_whole_run_reaches_what_was_asked(tmp_path: Path) -> None:
    rates = study(tmp_path, WarmUp).runs["highest_learning_rates"].astype(float)
    assert rates.tolist() == pytest.approx([0.001, 0.0215443, 0.464159, 10])


class LongWarmUp(Net):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": LambdaLR(optimizer, lambda step: (step + 1) / 450), "interval": "step"}]


def test_a_warm_up_that_is_longer_than_the_run_is_named(tmp_path: Path) -> None:
    (remark,) = study(tmp_path, LongWarmUp, points=2).remarks
    assert remark == "LambdaLR takes the learning rate to 0.1 times what is asked for at most, in a run at batch size 16"


class ToldTheEpoch(LRScheduler):
    """Stepped with the number of the epoch, as schedulers of other libraries are."""

    def step(self, epoch: int | None = None) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = rate * (epoch or 0) / 2


class OtherLibrarys(Net):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [ToldTheEpoch(optimizer)]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step(epoch=self.current_epoch)


def test_a_scheduler_that_is_told_the_epoch_is_tried_out_with_it(tmp_path: Path) -> None:
    assert study(tmp_path, OtherLibrarys).runs["highest_learning_rates"].tolist()[0] == "0.0005"


class Iterates(Net):
    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        return super().training_step(next(dataloader_iter)[0], 0)


def test_a_step_that_takes_its_batches_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Iterates.training_step \(.*\) must take one batch at a time, got dataloader_iter"):
        study(tmp_path, Iterates)


def test_a_loader_that_can_be_gone_through_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="generator must give batches whenever it is gone through, got none: every run"):
        study(tmp_path, Net, (batch for batch in Blobs().train_dataloader()))


class ReadsItsRate(Net):
    """Its loss holds its learning rate."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) + self.lr * self.net(batch[0]).square().mean()


def test_a_module_whose_loss_holds_its_rate_is_the_same_in_a_study_that_may_fuse(tmp_path: Path) -> None:
    options: dict[str, Any] = {"points": 6, "seeds": 2, "epochs": 8}
    fused = study(tmp_path, ReadsItsRate, **options)
    alone = study(tmp_path, ReadsItsRate, **options, fuse="never", name="alone")
    assert fused.runs["final_height"].tolist() == pytest.approx(alone.runs["final_height"].tolist(), rel=1e-3)


# ---- runs that end early ----


class Watched(Net):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("valid/loss", F.cross_entropy(self.net(batch[0]), batch[1]))


class WatchedData(Blobs):
    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*blobs(60)), 60)


class Stopping(Net):
    def on_train_epoch_end(self) -> None:
        self.trainer.should_stop = self.lr > 1


def test_runs_that_a_callback_or_the_module_ends_say_so(tmp_path: Path) -> None:
    stop = EarlyStopping("valid/loss", patience=0, min_delta=10)
    judged = study(tmp_path, Watched, WatchedData, trainer={"callbacks": [stop]})
    assert judged.runs["ended_early"].dropna().tolist() == ["EarlyStopping"] * 3 and (judged.runs["epochs"] < 3).all()
    assert any(remark.startswith("EarlyStopping may end runs before the budget") for remark in judged.remarks)
    judged = study(tmp_path, Stopping, name="by itself")
    assert judged.runs["ended_early"].isna().tolist() == [True, True, True, False]
    assert judged.runs["ended_early"].iloc[3] == "should_stop"


# ---- scales ----


class Huge(Net):
    """Losses of 1e12 and more: a learning rate of 1e-3 is far too high."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.net = nn.Linear(6, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return 1e6 * (self.net(batch[0])[:, 0] - 1e3).square().mean()


def test_losses_of_1e12_and_more_are_divergent_and_the_next_range_is_told(tmp_path: Path) -> None:
    judged = study(tmp_path, Huge)
    assert set(verdicts(judged)) == {"divergent"}
    for step in range(2):  # as often as the advice is followed at most
        (check,) = [check for check in judged.trust if check.name == "range"]
        if check.changes is not None:
            judged = study(tmp_path, Huge, learning_rate=check.changes["learning_rate"], points=9, name=f"step {step}")
    assert {"too low", "good", "divergent"} <= set(verdicts(judged))


def test_a_last_batch_that_is_much_smaller_is_named(tmp_path: Path) -> None:
    class Odd(Blobs):
        def train_dataloader(self) -> Any:
            return DataLoader(TensorDataset(*blobs(241)), self.batch_size, shuffle=True)

    judged = study(tmp_path, Net, Odd, points=2)
    assert [remark[:60] for remark in judged.remarks] == ["the last batch of an epoch holds 1 where others hold 16: its"]
    assert math.isfinite(judged.runs["final_height"].iloc[0]) and isinstance(judged.runs, pd.DataFrame)
