"""``LearningRateStudy`` studies before a fit, sets the learning rate everywhere and leaves the rest of the fit as it was."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning as pl
import torch
from conftest import QUIET
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import CSVLogger
from test_documents import STUDIES, blocks
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset, random_split

from reports.judging.trust import failures
from studies import LearningRateStudy, StudyConfig, lr_find, run_study
from studies.training.trainers import check_trainer

ASKED: dict[str, Any] = {"min_lr": 1e-3, "max_lr": 10.0, "num_training": 3, "seeds": 1, "epochs": 1}
pytestmark = pytest.mark.filterwarnings("ignore:.*is at the end of the range:UserWarning")


def examples(n: int = 96) -> TensorDataset:
    drawn = torch.Generator().manual_seed(3)
    inputs = torch.randn(n, 4, generator=drawn)
    return TensorDataset(inputs, inputs @ torch.randn(4, 1, generator=drawn))


class Line(pl.LightningModule):
    """made: a function of the module and its learning rate that gives what ``configure_optimizers`` does."""

    def __init__(self, lr: float = 2e-3, made: str = "plain") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return MADE[self.hparams["made"]](self, self.hparams["lr"])


def in_groups(module: Line, first: float, second: float) -> Any:
    groups = [{"params": module.net[0].parameters(), "lr": first}, {"params": module.net[2].parameters(), "lr": second}]
    optimizer = AdamW(groups)
    schedule = CosineAnnealingLR(optimizer, int(module.trainer.estimated_stepping_batches), eta_min=1e-5)
    return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def one_cycle(module: Line, rate: float) -> Any:
    optimizer = SGD(module.parameters(), rate)
    schedule = OneCycleLR(optimizer, rate, total_steps=int(module.trainer.estimated_stepping_batches))
    return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def plateau(module: Line, rate: float) -> Any:
    optimizer = SGD(module.parameters(), rate)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": ReduceLROnPlateau(optimizer, patience=0), "monitor": "val_loss"},
    }


MADE = {
    "plain": lambda module, rate: SGD(module.parameters(), rate, momentum=0.9),
    "two groups and a cosine": lambda module, rate: in_groups(module, rate, rate / 10),
    "one cycle": one_cycle,
    "plateau": plateau,
    "hard-coded": lambda module, rate: in_groups(module, 1e-3, 1e-4),
}


class LineData(pl.LightningDataModule):
    """Its orders are drawn from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = torch.Generator().manual_seed(5)

    def setup(self, stage: str) -> None:
        self.fit, self.held_out = random_split(examples(), [64, 32], generator=self.drawn)

    def train_dataloader(self) -> Any:
        return DataLoader(self.fit, 16, shuffle=True, generator=self.drawn)

    def val_dataloader(self) -> Any:
        return DataLoader(self.held_out, 32)


def trainer(*callbacks: Any, **options: Any) -> pl.Trainer:
    return pl.Trainer(**{**QUIET, "max_epochs": 2, "log_every_n_steps": 1, "callbacks": [*callbacks], **options})


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("studies.callback.rank_zero_info", lines.append)
    return lines


@pytest.mark.parametrize("made", ["plain", "two groups and a cosine", "one cycle", "plateau"])
def test_a_fit_is_to_the_bit_one_of_a_module_made_with_what_was_found(made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "")
    monkeypatch.setenv("PL_SEED_WORKERS", "")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    def fitted(rate: float, *callbacks: Any) -> tuple[list[Any], dict[str, Any]]:
        pl.seed_everything(7, workers=True, verbose=False)
        module = Line(rate, made)
        fit = trainer(*callbacks)
        fit.fit(module, datamodule=LineData())
        groups = [{k: v for k, v in group.items() if k != "params"} for group in fit.optimizers[0].param_groups]
        left = [torch.rand(1), os.environ["PL_GLOBAL_SEED"], os.environ["PL_SEED_WORKERS"], groups]
        return [*left, logging.getLogger("pytorch_lightning").level], module.state_dict()

    study = LearningRateStudy(**ASKED)
    (left, weights), rate = fitted(2e-3, study), study.learning_rate
    assert rate is not None and rate != 2e-3
    by_hand, same = fitted(rate)
    assert left == by_hand
    torch.testing.assert_close(weights, same, rtol=0, atol=0)


def test_rates_of_the_modules_own_keep_their_proportion_and_their_schedule(said: list[str]) -> None:
    study, module = LearningRateStudy(**ASKED), Line(made="hard-coded")
    fit = trainer(study)
    fit.fit(module, datamodule=LineData())
    rate = study.learning_rate
    assert rate is not None and study.found is not None
    assert [group["initial_lr"] for group in fit.optimizers[0].param_groups] == pytest.approx([rate, rate / 10])
    schedule: Any = fit.lr_scheduler_configs[0].scheduler
    assert schedule.base_lrs == pytest.approx([rate, rate / 10])
    assert f"The optimizers step with {rate:.3g}, {rate / 10:.3g} now." in said[-1]
    place = r"Line.configure_optimizers \(.*\) has learning rates of its own \(0.001, 1e-4\)"
    with pytest.raises(ValueError, match=rf"apply needs .* {place}: set {rate:.3g}, {rate / 10:.3g} there, or fit with"):
        study.found.apply(module)
    with pytest.raises(ValueError, match=f"update_attr needs .* {place}: fit with the callback LearningRateStudy"):
        lr_find(trainer(), module, LineData(), **ASKED, update_attr=True)


def test_checkpoints_and_loggers_hold_what_was_set_and_a_fit_goes_on_without_a_study(tmp_path: Path, said: list[str]) -> None:
    made = "two groups and a cosine"
    study = LearningRateStudy(**ASKED)
    options: dict[str, Any] = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    first = trainer(study, logger=CSVLogger(tmp_path), **options)
    first.fit(Line(made=made), datamodule=LineData())
    file = first.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    kept, rate = torch.load(file, weights_only=True), study.learning_rate
    assert kept["hyper_parameters"] == {"lr": rate, "made": made}
    assert f"lr: {rate}\n" in next(tmp_path.rglob("hparams.yaml")).read_text()
    del said[:]
    again, module = LearningRateStudy(**ASKED), Line(made=made)
    second = trainer(again, max_epochs=3, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The dirpath has changed")
        second.fit(module, datamodule=LineData(), ckpt_path=file)
    assert said == ["LearningRateStudy: nothing is studied: the fit goes on from a checkpoint, with its learning rates"]
    assert again.found is None and again.learning_rate == rate == module.hparams["lr"]
    assert [group["initial_lr"] for group in second.optimizers[0].param_groups] == pytest.approx([rate, rate / 10])  # type: ignore[operator]
    assert second.global_step == 12


def test_the_same_module_is_not_studied_again_and_another_one_is(said: list[str]) -> None:
    study, module = LearningRateStudy(**ASKED), Line()
    fit = trainer(study)
    fit.fit(module, datamodule=LineData())
    found, rate = study.found, study.learning_rate
    module.hparams["lr"] = 123.0
    fit.fit_loop.max_epochs = 3
    fit.fit(module, datamodule=LineData())
    assert said[-1] == f"LearningRateStudy: the module is fitted again with what was found before: learning rate {rate:.3g}"
    assert study.found is found and module.hparams["lr"] == rate == fit.optimizers[0].param_groups[0]["lr"]
    fit.fit_loop.max_epochs = 4
    fit.fit(Line(), DataLoader(examples(), 8), DataLoader(examples(), 32))
    assert study.found is not found and set(study.found.judged.runs["batch_size"]) == {8}  # type: ignore[union-attr]


CELL = """
class Cell(Line):
    pass

study = LearningRateStudy(**ASKED)
module = Cell()
trainer(study).fit(module, datamodule=LineData())
"""


def test_a_cell_of_a_notebook_may_run_again() -> None:
    names = {**globals(), "__name__": "__main__"}
    rates = []
    for _ in range(2):
        exec(CELL, names)
        rates.append((names["study"].learning_rate, names["module"].hparams["lr"]))
    assert rates[0] == rates[1] and rates[0][0] == rates[0][1] is not None


def test_nothing_is_studied_in_a_fast_dev_run(said: list[str]) -> None:
    module = Line()
    trainer(LearningRateStudy(), fast_dev_run=True).fit(module, datamodule=LineData())
    assert said == ["LearningRateStudy: nothing is studied with fast_dev_run"] and module.hparams["lr"] == 2e-3


def test_a_module_keeps_its_learning_rate_where_none_is_good(said: list[str]) -> None:
    study, module = LearningRateStudy(**ASKED | {"min_lr": 1e5, "max_lr": 1e6, "num_training": 2}), Line()
    with pytest.warns(UserWarning, match="^LearningRateStudy: no learning rate tried is good, so the module keeps its own$"):
        trainer(study).fit(module, datamodule=LineData())
    assert module.hparams["lr"] == 2e-3 and study.learning_rate is None and study.found is not None
    assert "every learning rate diverged" in said[-1] and ": try " in said[-1]
    with pytest.raises(ValueError, match="apply needs a learning rate to set, got none: no learning rate is good"):
        study.found.apply(module)


def test_nothing_is_left_on_disk_but_the_report_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[str] = []
    monkeypatch.setattr("studies.finder.write_report", lambda judged, folder, **_: reports.append(folder))
    monkeypatch.chdir(tmp_path)
    trainer(LearningRateStudy(**ASKED, report="told")).fit(Line(), datamodule=LineData())
    assert reports == ["told"] and list(tmp_path.iterdir()) == []


def test_what_is_said_is_what_a_launch_says(said: list[str]) -> None:
    study = LearningRateStudy(**ASKED)
    trainer(study, GradientAccumulationScheduler({0: 1})).fit(Line(), datamodule=LineData())
    assert study.found is not None
    judged = study.found.judged
    answer = judged.answers[0]
    left_out = "studied without GradientAccumulationScheduler, as callbacks of the Trainer are left out: it decides what a step"
    first, *cautions = said[-1].splitlines()
    assert first.startswith(f"LearningRateStudy: {answer.advice} at batch size 16. The optimizers step with ")
    assert judged.own in first and first.endswith(" checks passed.")
    assert cautions[-1].startswith(left_out) and failures(judged.trust)
    assert cautions[:-1] == [*([answer.note] if answer.note else []), *failures(judged.trust)]
    assert repr(study.found).splitlines() == [answer.advice, *study.found.cautions]


class Adversaries(pl.LightningModule):
    """Two optimizers that are stepped by hand, and no loss that is returned."""

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.maker, self.judge = nn.Linear(2, 4), nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        made: Any = self.maker(torch.randn(len(batch[0]), 2))
        for optimizer, name in zip(self.optimizers(), ("d_loss", "g_loss"), strict=True):  # type: ignore[arg-type]
            sign = 1 if name == "d_loss" else -1
            loss = nn.functional.softplus(sign * self.judge(made)).mean() + (self.judge(batch[0]) ** 2).mean()
            optimizer.zero_grad()  # type: ignore[union-attr]
            self.manual_backward(loss, retain_graph=True)
            self.log(name, loss)
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.step()  # type: ignore[union-attr]

    def configure_optimizers(self) -> Any:
        rate = self.hparams["lr"]
        return [SGD(self.judge.parameters(), rate), SGD(self.maker.parameters(), rate / 2)]


def test_a_module_without_a_loss_is_refused_as_by_a_launch_and_studied_by_a_metric(tmp_path: Path) -> None:
    sentence = (
        r"Adversaries.training_step \(.*\) must return the loss, got None; or name a metric it logs with monitor: d_loss, g"
    )
    data = DataLoader(examples(), 16)
    with pytest.raises(ValueError, match=sentence):
        run_study(StudyConfig(model=Adversaries, data=data, batch_size=16, points=2, storage=f"{tmp_path}/studies.db"))
    with pytest.raises(ValueError, match=sentence):
        lr_find(trainer(), Adversaries(), data)
    with pytest.raises(ValueError, match=sentence):
        trainer(LearningRateStudy()).fit(Adversaries(), data)
    study = LearningRateStudy(**ASKED, monitor="d_loss")
    fit = trainer(study)
    fit.fit(Adversaries(), data)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in fit.optimizers]
    assert study.learning_rate is not None and rates == [study.learning_rate, study.learning_rate / 2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"min_lr": 1.0, "max_lr": 0.1}, "learning_rate must be LOW HIGH with 0 < LOW <= HIGH, got 1 0.1"),
        ({"num_training": 3, "max_time": "1min"}, "max_time belongs to the sampler edges"),
        ({"mode": "max"}, "mode max needs monitor"),
    ],
)
def test_bad_input_is_refused_when_the_callback_is_made(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        LearningRateStudy(**options)


def test_a_trainer_of_several_devices_is_refused() -> None:
    sentence = "trainer.devices must be 1: a study trains each run on one device, got 2"
    with pytest.raises(ValueError, match=sentence):
        lr_find(trainer(devices=2), Line(), LineData())


@pytest.mark.parametrize("option", ["overfit_batches", "fast_dev_run"])
def test_a_trainer_that_trains_on_a_part_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"trainer.{option} cannot be set: every run of a study trains in full"):
        lr_find(trainer(**{option: 1}), Line(), LineData())


def test_a_trainer_that_is_told_no_length_gets_that_of_a_study() -> None:
    study = LearningRateStudy(min_lr=0.01, max_lr=0.02, num_training=2, seeds=1)
    stops = pl.callbacks.EarlyStopping("val_loss", patience=1)
    with pytest.warns(UserWarning, match="`max_epochs` was not set"):
        trainer(study, stops, max_epochs=None, limit_train_batches=1).fit(Line(), datamodule=LineData())
    assert study.found is not None and set(study.found.judged.runs["epochs"]) == {10.0}


class BringsItsStudy(Line):
    def configure_callbacks(self) -> Any:
        return [LearningRateStudy(**ASKED)]


def test_runs_of_a_study_do_not_study(said: list[str]) -> None:
    trainer().fit(BringsItsStudy(), datamodule=LineData())
    assert sum(line == "LearningRateStudy: studies before the fit" for line in said) == 1


def test_a_study_leaves_the_callback_out() -> None:
    spec = {"class_path": "studies.LearningRateStudy", "init_args": {"seeds": 1}}
    assert check_trainer({"callbacks": [spec, LearningRateStudy()]}) == {}
    assert check_trainer({"callbacks": spec}) == {}
    assert check_trainer({"callbacks": [spec, "RichProgressBar"]}) == {"callbacks": ["RichProgressBar"]}


class OtherLine(lightning.pytorch.LightningModule):
    def __init__(self, lr: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(4, 1)

    training_step = Line.training_step

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), self.hparams["lr"])


def test_it_is_a_callback_of_both_packages() -> None:
    study, module = LearningRateStudy(**ASKED), OtherLine()
    assert isinstance(study, pl.Callback) and isinstance(study, lightning.pytorch.Callback)
    fit = lightning.pytorch.Trainer(**{**QUIET, "max_epochs": 1}, callbacks=study)
    fit.fit(module, DataLoader(examples(), 16))
    assert study.learning_rate == module.hparams["lr"] == fit.optimizers[0].param_groups[0]["lr"]


@pytest.mark.parametrize("options", [[], ["--optimizer", "SGD", "--optimizer.lr", "0.002"]], ids=["own", "optimizer"])
def test_yaml_of_lightningcli_names_it(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = (block for block in blocks(STUDIES, "yaml") if "studies.LearningRateStudy" in block)
    (tmp_path / "config.yaml").write_text(shown)
    asked = {**ASKED, "report": None, "max_time": None}
    own = not options
    options = [*options, *(f"--trainer.callbacks.{name}={'null' if of is None else of}" for name, of in asked.items())]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what jsonargparse deprecates, and that optimizers are overridden
        cli = LightningCLI(
            Line,
            LineData,
            trainer_defaults={**QUIET, "max_epochs": 2},
            args=["fit", "--config", "config.yaml", *options],
            save_config_callback=None,
        )
    (study,) = [each for each in cli.trainer.callbacks if isinstance(each, LearningRateStudy)]  # type: ignore[attr-defined]
    optimizer: Optimizer = cli.trainer.optimizers[0]
    assert study.learning_rate == optimizer.param_groups[0]["lr"] and study.found is not None
    assert len(study.found.judged.runs) == 3 and study.found.judged.runs["final_height"].nunique() == 3
    told = study.found._configuration["model"]
    assert (told.get("init_args") == {"lr": 2e-3, "made": "plain"}) == own, "made anew, but for an optimizer of the CLI"
