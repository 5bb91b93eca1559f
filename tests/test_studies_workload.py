"""Module, data, optimizer and Trainer are taken as people give them, and refused in one sentence where they cannot be."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from test_studies_preflight import INPUTS, LABELS, Blobs, Net
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from studies import StudyConfig, Workload, run_study, runs_table, train
from studies.training.trainers import build_trainer, check_trainer


def run_of(workload: Workload, rate: float = 0.1, seed: int = 0, **options: Any) -> Any:
    (run,) = train(workload, [(rate, seed)], **({"batch_size": 8, "epochs": 2} | options))
    return run


class Momentum(Net):
    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=self.lr, momentum=0.9)


class Logging(Net):
    """Logs an accuracy of which more is better, under a name with a slash."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, labels = batch
        self.log("valid/acc", (self.layer(inputs).argmax(dim=1) == labels).float().mean())
        self.log("valid/loss", cross_entropy(self.layer(inputs), labels))


class Both(Blobs):
    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(INPUTS, LABELS), 40)


class Needy(Logging):
    """Requires what a study sets anyway."""

    def __init__(self, lr: float, width: int = 3) -> None:
        super().__init__(lr)


def test_optimizer_given_as_spec_is_used_instead_of_the_modules_own() -> None:
    spec = {"class_path": "SGD", "init_args": {"momentum": 0.9}}
    assert run_of(Workload.of(Net, Blobs, optimizer=spec)).curves == run_of(Workload.of(Momentum, Blobs)).curves
    assert run_of(Workload.of(Net, Blobs)).curves != run_of(Workload.of(Momentum, Blobs)).curves


def test_scheduler_given_as_spec_is_used_and_constant_leaves_it_out() -> None:
    options: dict[str, Any] = {"optimizer": "SGD", "lr_scheduler": {"class_path": "StepLR", "init_args": {"step_size": 1}}}
    plain = run_of(Workload.of(Net, Blobs)).curves["height"]
    stepped = run_of(Workload.of(Net, Blobs, **options)).curves["height"]
    assert stepped != plain and stepped[1][:4] == plain[1][:4]  # the same until the first epoch ends
    assert run_of(Workload.of(Net, Blobs, **options, constant=True)).curves["height"] == plain


def test_scheduler_that_watches_a_metric_gets_it() -> None:
    plateau = {"class_path": "pytorch_lightning.cli.ReduceLROnPlateau", "init_args": {"monitor": "valid/loss", "patience": 0}}
    run = run_of(Workload.of(Logging, Both, optimizer="torch.optim.SGD", lr_scheduler=plateau))
    assert run.steps == 10 and {"val_loss", "val_acc"} == set(run.metrics)


def test_required_learning_rate_and_batch_size_need_not_be_given() -> None:
    here = __name__
    workload = Workload.of(f"{here}.Needy", f"{here}.Both")
    assert workload.model.facts["init_args"] == {"lr": 0.1}
    assert run_of(workload, rate=0.3).curves == run_of(Workload.of(Logging, Both), rate=0.3).curves


def test_configuration_names_what_was_given_and_nothing_else() -> None:
    facts = Workload.of(partial(Needy, 0.1, width=4), Blobs(), constant=True).as_dict()
    assert facts == {
        "model": {"factory": f"{__name__}.Needy", "arguments": [0.1, {"width": 4}]},
        "data": {"class_path": "test_studies_preflight.Blobs"},
        "trainer": {},
        "constant": True,
    }


def test_data_drawn_at_random_are_the_same_in_all_runs() -> None:
    drawn = []

    class Drawn(Blobs):
        def setup(self, stage: str) -> None:
            drawn.append(torch.randn(3).tolist())

    workload = Workload.of(Net, Drawn)
    for seed in (0, 1):
        run_of(workload, seed=seed)
    assert len(drawn) > 2 and all(draw == drawn[0] for draw in drawn)


def test_seeds_start_where_seed_everything_says(tmp_path: Path) -> None:
    config = StudyConfig(
        Net, Blobs, learning_rate=(0.1, 0.1), batch_size=8, seeds=2, epochs=1, seed_everything=5, storage=str(tmp_path / "s.db")
    )
    assert runs_table(run_study(config))["seed"].tolist() == [5, 6]


def test_more_of_the_monitored_metric_is_better(tmp_path: Path) -> None:
    options: dict[str, Any] = {"monitor": "valid/acc", "mode": "max", "storage": str(tmp_path / "s.db")}
    config = StudyConfig(Logging, Both, learning_rate=(0.01, 1e38), points=3, batch_size=8, seeds=1, epochs=3, **options)
    study = run_study(config)
    values = [trial.value for trial in study.trials]
    accuracies = runs_table(study)["val_acc"].tolist()
    assert values[0] == pytest.approx(accuracies[0]) and values[-1] == -math.inf and math.isnan(accuracies[-1])
    assert study.best_value == max(values)  # type: ignore[type-var]


def test_defaults_that_lightning_cli_writes_out_are_dropped() -> None:
    written = {"accelerator": "auto", "max_steps": -1, "fast_dev_run": False, "overfit_batches": 0.0, "logger": None}
    assert check_trainer(written | {"precision": "32-true", "callbacks": None}) == {"precision": "32-true"}


def test_module_that_raises_once_it_is_no_longer_finite_has_diverged() -> None:
    class Strict(Logging):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            torch.distributions.Normal(self.layer(batch[0]), 1.0)  # raises ValueError for NaN

    run = run_of(Workload.of(Strict, Both), rate=1e38)
    assert run.nonfinite_at == run.steps and run.final_height == run.value == math.inf
    assert run_of(Workload.of(Strict, Both)).nonfinite_at is None


class Counting(pl.Callback):
    """A callback of the user's that remembers."""

    def __init__(self) -> None:
        self.n_fits = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.n_fits += 1
        assert self.n_fits == 1, "a callback was used twice"


def test_callbacks_are_new_in_every_run_and_those_that_print_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = [Counting(), "RichProgressBar", {"class_path": "TQDMProgressBar"}, {"class_path": f"{__name__}.Counting"}]
    workload = Workload.of(Net, Blobs, {"callbacks": callbacks, "logger": False})
    for seed in range(2):
        run_of(workload, seed=seed)
    assert capsys.readouterr() == ("", "")


def test_loggers_and_checkpoints_have_a_folder_for_each_run(tmp_path: Path) -> None:
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path / "mine"), "name": "n"}}
    checkpoint = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": str(tmp_path / "kept")}}
    options = {"log_every_n_steps": 1, "logger": logger, "callbacks": [checkpoint, "LearningRateMonitor"]}
    workload = Workload.of(Logging, Both, options)
    for rate in (0.1, 0.2):
        run_of(workload, rate=rate, folder=tmp_path / "runs")
    runs = {"bs8_lr0.1_s0", "bs8_lr0.2_s0"}
    assert {path.name for path in (tmp_path / "mine" / "n").iterdir()} == runs
    assert {path.name for path in (tmp_path / "kept").iterdir()} == runs
    logged = pd.read_csv(tmp_path / "mine" / "n" / "bs8_lr0.2_s0" / "metrics.csv")
    assert set(logged["lr-SGD"].dropna()) == {0.2} and logged["valid/acc"].notna().sum() == 2
    assert sum(1 for _ in (tmp_path / "kept").rglob("*.ckpt")) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "kept"}


def test_default_logger_writes_below_the_runs_folder(tmp_path: Path) -> None:
    run_of(Workload.of(Logging, Both, {"logger": True, "log_every_n_steps": 1}), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bs8_lr0.1_s0"]
    assert (tmp_path / "bs8_lr0.1_s0" / "metrics.csv").exists()


SOURCES: list[tuple[dict[str, Any], str]] = [
    ({"model": Net}, "data must be given: Net has no train_dataloader of its own"),
    ({"model": lambda: Net()}, "data must be given: Net has no train_dataloader of its own"),
    ({"model": lambda: nn.Linear(2, 2), "data": Blobs}, "model must be a LightningModule, got Linear"),
    ({"model": nn.Linear(2, 2), "data": Blobs}, "model must be a LightningModule, got Linear"),
    ({"model": Net, "data": Net}, "data must be a LightningDataModule or a DataLoader, got Net"),
    ({"model": Net, "data": 5}, "data must be a LightningDataModule or a DataLoader, got int"),
    ({"model": Net, "data": lambda: 5}, "data must be a LightningDataModule or a DataLoader, got int"),
    ({"model": Net, "data": Blobs, "lr_scheduler": "StepLR"}, "lr_scheduler needs optimizer beside it, got StepLR alone"),
    ({"model": Net, "data": Blobs, "optimizer": "SDG"}, "optimizer 'torch.optim.SDG' could not be imported"),
    ({"model": Net, "data": Blobs, "optimizer": 5}, "optimizer must be an import path such as my_package.MyClass, got 5"),
    (
        {"model": Net, "data": Blobs, "optimizer": {"class_path": "SGD", "init_args": {"momentun": 1}}},
        "optimizer SGD has no argument 'momentun'; did you mean 'momentum'?",
    ),
    (
        {"model": Net, "data": Blobs, "learning_rate_name": "rate"},
        "learning_rate_name must be an attribute of the module, its hparams or its datamodule, Net has no 'rate'",
    ),
    ({"trainer": {"max_epochs": 3}}, "trainer.max_epochs cannot be set: every run of a study trains the same number of epochs"),
    ({"trainer": {"fast_dev_run": True}}, "trainer.fast_dev_run cannot be set: every run of a study trains in full"),
    ({"trainer": {"callbacks": ["EarlyStoping"]}}, "trainer.callbacks 'pytorch_lightning.callbacks.EarlyStoping' could not be"),
    (
        {"trainer": {"callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitors": "x"}}]}},
        "trainer.callbacks EarlyStopping has no argument 'monitors'; did you mean 'monitor'?",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), SOURCES, ids=range(len(SOURCES)))
def test_what_cannot_be_a_workload_is_refused_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        Workload.of(**values).build(learning_rate=0.1, batch_size=8, seed=0)
    assert str(caught.value).startswith(sentence)


def test_more_than_one_device_is_refused_and_lightnings_complaint_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="trainer.devices must be 1: a study trains each run on one device, got 2"):
        build_trainer({"devices": 2, "accelerator": "cpu"}, epochs=1)
    with pytest.raises(ValueError, match="trainer was refused by Lightning: .*precision"):
        build_trainer({"precision": "12"}, epochs=1)


def test_loaders_given_as_data_are_rebuilt_at_each_batch_size() -> None:
    examples = TensorDataset(torch.randn(40, 6), torch.arange(40) % 3)
    workload = Workload.of(Logging, (DataLoader(examples, 4, shuffle=True), DataLoader(examples, 40)))
    assert [run_of(workload, batch_size=size, epochs=1).steps for size in (4, 8, 16)] == [10, 5, 3]
    assert run_of(workload, seed=1).curves == run_of(workload, seed=1).curves
