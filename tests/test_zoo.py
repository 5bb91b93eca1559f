"""Modules as people write them are studied unchanged, and their runs are what a fit by hand would have been."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import zoo
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.demos.boring_classes import BoringDataModuleNoLen, BoringModel, ManualOptimBoringModel, RandomDataset
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from studies import Run, StudyConfig, Workload, judge_study, run_study, train

LETTERS = {"too low": "L", "good": "G", "too high": "H", "divergent": "D"}
POINTS = 6

pytestmark = [
    # Lightning says so of a datamodule that also serves modules without validation.
    pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`:UserWarning")
]


@dataclass(frozen=True)
class Member:
    """A module of the zoo with its data.

    given: model, data and further options of a study, made anew.
    low, high, batch_size, epochs: of the study.
    verdicts: a letter for each of six learning rates; ``[HD]`` where seeds disagree.
    by_hand: the same module, and its data where it has none itself, for a learning rate and a seed without this project.
    """

    given: Callable[[], dict[str, Any]]
    low: float
    high: float
    batch_size: int
    epochs: int
    verdicts: str
    by_hand: Callable[[float, int], tuple[pl.LightningModule, Any]] | None = None
    seeds: int = 1

    def config(self, folder: Path, **changes: Any) -> StudyConfig:
        values = {"learning_rate": (self.low, self.high), "points": POINTS, "batch_size": self.batch_size}
        values |= {"epochs": self.epochs, "seeds": self.seeds, "name": "zoo", "storage": str(folder / "studies.db")}
        return StudyConfig.from_mapping(values | self.given() | changes)

    def rates(self) -> tuple[float, ...]:
        return StudyConfig(learning_rate=(self.low, self.high), points=POINTS).learning_rates


def given(model: Any, data: Any = None, **options: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"model": model, "data": data, **options}


# ---- the same by hand ----


def boring(kind: type[BoringModel]) -> Callable[[float, int], tuple[pl.LightningModule, Any]]:
    def made(rate: float, seed: int) -> tuple[pl.LightningModule, Any]:
        class Boring(kind):  # type: ignore[valid-type, misc]
            def train_dataloader(self) -> Any:
                return DataLoader(RandomDataset(32, 64), batch_size=4)

            def configure_optimizers(self) -> Any:
                optimizer = torch.optim.SGD(self.parameters(), lr=rate)
                return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

        return Boring(), None

    return made


def with_optimizer(
    kind: type[pl.LightningModule], optimizer: Callable[[pl.LightningModule, float], Any], data: Callable[[], Any]
) -> Callable[[float, int], tuple[pl.LightningModule, Any]]:
    def made(rate: float, seed: int) -> tuple[pl.LightningModule, Any]:
        class Same(kind):  # type: ignore[valid-type, misc]
            def configure_optimizers(self) -> Any:
                return optimizer(self, rate)

        return Same(), data()

    return made


def transformer(rate: float, seed: int) -> tuple[pl.LightningModule, Any]:
    class Same(zoo.LightningTransformer):
        def train_dataloader(self) -> Any:
            return DataLoader(zoo.Text(), batch_size=16, generator=torch.Generator().manual_seed(seed))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=rate)

    return Same(), None


def layer_rates(module: Any, rate: float) -> Any:
    groups = [{"params": module.head.parameters()}, {"params": module.backbone.parameters(), "lr": rate / 10}]
    return torch.optim.SGD(groups, lr=rate, momentum=0.9)


def regression(rate: float, seed: int) -> tuple[pl.LightningModule, Any]:
    return zoo.GaussianRegression({"width": 8, "lr": rate}), zoo.DiabetesData(16)


def dicts(rate: float, seed: int) -> tuple[pl.LightningModule, Any]:
    model = zoo.DictModel()
    model.learning_rate = rate
    return model, zoo.PatientsData()


def of_rate(kind: type, data: Callable[[], Any], name: str = "lr") -> Callable[[float, int], tuple[pl.LightningModule, Any]]:
    return lambda rate, seed: (kind(**{name: rate}), data())


digits = functools.partial(zoo.DigitsData, 16)
ZOO = {
    "boring": Member(given("pytorch_lightning.demos.BoringModel"), 1e-4, 10, 4, 2, "LLLGDD", boring(BoringModel), seeds=2),
    "manual": Member(
        given("pytorch_lightning.demos.boring_classes.ManualOptimBoringModel"),
        *(1e-4, 10, 4, 2, "LLLGDD", boring(ManualOptimBoringModel)),
        seeds=2,
    ),
    "transformer": Member(given(zoo.LightningTransformer), 1e-3, 100, 16, 6, "LLLGDD", transformer),
    "resnet18": Member(
        given(zoo.ResNetTransfer, zoo.ColourDigits), 5e-4, 500, 8, 5, "LGDDDD", of_rate(zoo.ResNetTransfer, zoo.ColourDigits)
    ),
    "autoencoder": Member(
        given(zoo.LitAutoEncoder, zoo.DigitsData),
        *(3e-5, 3, 16, 10, "LLGG[GH]D"),
        with_optimizer(zoo.LitAutoEncoder, lambda module, rate: torch.optim.Adam(module.parameters(), lr=rate), digits),
    ),
    "dict batches": Member(given(zoo.DictModel, zoo.PatientsData), 1e-4, 10, 16, 5, "LLLGDD", dicts),
    # The discriminator's loss is lowest where the generator is lost: as a measure of a GAN it calls high rates good.
    "gan": Member(given(zoo.GAN, zoo.DigitsData, monitor="d_loss"), 1e-4, 10, 16, 4, "LLLLGG", of_rate(zoo.GAN, digits)),
    "fine-tuned": Member(given(zoo.FineTuned, zoo.DigitsData), 1e-4, 10, 16, 6, "LLLLGD", of_rate(zoo.FineTuned, digits)),
    "layer rates": Member(
        given(zoo.LayerRates, zoo.DigitsData), *(1e-4, 10, 16, 6, "LLLLGD", with_optimizer(zoo.LayerRates, layer_rates, digits))
    ),
    # A network that died sits at chance level, a little above or below its untrained height.
    "cosine": Member(
        given(zoo.CosineNet, zoo.DigitsData), 1e-5, 10, 16, 8, "LLLG[HD][HD]", of_rate(zoo.CosineNet, digits, "learning_rate")
    ),
    "batch norm and dropout": Member(
        given(zoo.CNN, zoo.DigitsData), 1e-4, 10, 16, 5, "LLLGHD", of_rate(zoo.CNN, digits, "learning_rate")
    ),
    "silent": Member(
        given(zoo.SilentNet, zoo.DigitsData),
        *(1e-5, 10, 16, 8, "LLLG[HD]D"),
        with_optimizer(zoo.SilentNet, lambda module, rate: torch.optim.Adam(module.parameters(), lr=rate), digits),
    ),
    "negative losses": Member(
        given({"class_path": "zoo.GaussianRegression", "init_args": {"hparams": {"width": 8, "lr": 0.01}}}, "zoo.DiabetesData"),
        *(3e-4, 30, 16, 8, "LLGDDD", regression),
    ),
    "lstm": Member(
        given(zoo.CharacterLSTM, zoo.TextData), 1e-2, 1_000, 8, 6, "LLLGDD", of_rate(zoo.CharacterLSTM, zoo.TextData)
    ),
    "stream": Member(given("pytorch_lightning.demos.BoringModel", BoringDataModuleNoLen), 1e-4, 10, 16, 2, "LLLGDD"),
    "loaders": Member(lambda: {"model": zoo.PlainNet, "data": tuple(zoo.loaders())}, 1e-3, 30, 16, 6, "LLLG[HD]D"),
    "instance": Member(
        lambda: {"model": zoo.PlainNet(hidden=24), "data": zoo.DigitsData()}, 1e-3, 30, 16, 6, "LLLG[HD]D", seeds=2
    ),
    "pretrained": Member(lambda: {"model": zoo.pretrained(), "data": zoo.DigitsData()}, 1e-3, 30, 16, 6, "LLLG[HD]D", seeds=2),
    "partial": Member(
        given(functools.partial(zoo.PlainNet, hidden=32), functools.partial(zoo.DigitsData, 8)), 1e-3, 30, 16, 6, "LLLG[HD]D"
    ),
    "factory": Member(given(zoo.small_net, zoo.DigitsData), 1e-3, 30, 16, 6, "LLLG[HD]D"),
    "other package": Member(given(zoo.OtherNet, zoo.OtherData), 1e-2, 1_000, 16, 8, "LLGG[GH]D"),
    "other package by path": Member(given("lightning.pytorch.demos.boring_classes.BoringModel"), 1e-4, 10, 4, 2, "LLLGDD"),
}
BY_HAND = [name for name, member in ZOO.items() if member.by_hand]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def verdicts_of(config: StudyConfig) -> str:
    study = run_study(config)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * config.n_runs
    return "".join(LETTERS[verdict] for verdict in judge_study(study).cells["verdict"])


@pytest.mark.parametrize("name", ZOO)
def test_learning_rates_get_the_verdicts_they_deserve(name: str, tmp_path: Path) -> None:
    verdicts = verdicts_of(ZOO[name].config(tmp_path))
    assert re.fullmatch(ZOO[name].verdicts, verdicts), verdicts
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("studies.db")] == []


# ---- initial weights, and order of the runs ----

STARTS: list[str] = []
RATES: list[list[float]] = []
ENDS: list[dict[str, Tensor]] = []  # here and not in the callback: every run has a callback of its own


class Watch(pl.Callback):
    """Notes the weights a run starts from and ends with."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        state = b"".join(value.detach().numpy().tobytes() for value in pl_module.state_dict().values())
        STARTS.append(hashlib.sha256(state).hexdigest())
        RATES.append([group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        ENDS.append({name: value.clone() for name, value in pl_module.state_dict().items()})


class OtherWatch(Watch, lightning.pytorch.Callback):
    """The same for the other package."""


def watched(options: Mapping[str, Any]) -> dict[str, Any]:
    other = options["model"] is zoo.OtherNet or str(options["model"]).startswith("lightning.")
    callback = OtherWatch() if other else Watch()
    return {**options, "trainer": {**options.get("trainer", {}), "callbacks": [callback], "logger": False}}


def curves(run: Run) -> dict[str, Any]:
    return {name: ([*steps], [*values]) for name, (steps, values) in run.curves.items()}


@pytest.mark.parametrize("name", ZOO)
def test_weights_belong_to_the_seed_and_runs_leave_nothing_behind(name: str) -> None:
    member, options = ZOO[name], ZOO[name].given()
    low, high = member.rates()[2], member.rates()[3]
    STARTS.clear()
    runs = train(Workload.of(**watched(options)), [(low, 0), (high, 0), (low, 1)], batch_size=member.batch_size, epochs=1)
    alone = train(Workload.of(**options), [(high, 0)], batch_size=member.batch_size, epochs=1)
    assert STARTS[0] == STARTS[1]
    assert (STARTS[0] == STARTS[2]) == (name == "pretrained")
    assert curves(runs[1]) == curves(alone[0])
    assert curves(runs[0]) != curves(runs[1])


# ---- oracle: a fit by hand ----


def fit_by_hand(member: Member, rate: float, seed: int, epochs: int, *callbacks: pl.Callback, **options: Any) -> Any:
    assert member.by_hand is not None
    pl.seed_everything(seed, verbose=False)
    model, data = member.by_hand(rate, seed)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", num_sanity_val_steps=0, callbacks=[*callbacks], **quiet, **options
    )
    pl.seed_everything(seed, verbose=False)
    trainer.fit(model, datamodule=data)
    return model


@pytest.mark.parametrize("name", BY_HAND)
def test_run_ends_with_the_weights_of_a_fit_by_hand(name: str) -> None:
    member, seed = ZOO[name], 3
    rate = member.rates()[2]
    ends_alike(member, rate, seed, {})


OPTIONS = {
    "accumulate_grad_batches": ({"accumulate_grad_batches": 2}, "LLLG[HD]D"),
    "gradient_clip_val": ({"gradient_clip_val": 1.0}, "LLLG[HD]D"),
    "precision": ({"precision": "bf16-mixed"}, "LLLG[HD]D"),
}
PLAIN = Member(given(zoo.PlainNet, zoo.DigitsData), 1e-3, 30, 16, 6, "LLLG[HD]D", of_rate(zoo.PlainNet, digits))


@pytest.mark.parametrize("name", OPTIONS)
def test_trainer_options_act_as_in_a_fit_by_hand(name: str, tmp_path: Path) -> None:
    options, expected = OPTIONS[name]
    verdicts = verdicts_of(PLAIN.config(tmp_path, trainer=options))
    assert re.fullmatch(expected, verdicts), verdicts
    ends_alike(PLAIN, 4.0, 3, options)


def ends_alike(member: Member, rate: float, seed: int, options: Mapping[str, Any]) -> None:
    """Assert that a run ends with the weights of a fit by hand, and that the options change them."""
    ENDS.clear()
    workload = Workload.of(**watched({**member.given(), "trainer": options}))
    train(workload, [(rate, seed)], batch_size=member.batch_size, epochs=2)
    by_hand = fit_by_hand(member, rate, seed, 2, **options).state_dict()
    assert list(ENDS[0]) == list(by_hand)
    for key, value in by_hand.items():
        torch.testing.assert_close(ENDS[0][key], value, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    if options:
        plain = fit_by_hand(member, rate, seed, 2).state_dict()
        assert any(not torch.allclose(by_hand[key], plain[key], rtol=1e-4, atol=1e-6) for key in plain)


# ---- oracle: the verdicts of VERDICTS by hand, from a loss measured after every step ----


def images_and_labels() -> tuple[Tensor, Tensor]:
    images, labels = zoo.digits()[: zoo.N_TRAIN]
    return images, labels


def autoencoder_loss(module: Any) -> Tensor:
    flat = images_and_labels()[0].flatten(1)
    return F.mse_loss(module.decoder(module.encoder(flat)), flat)


def label_loss(module: Any, **options: Any) -> Tensor:
    images, labels = images_and_labels()
    logits = module.net(images) if hasattr(module, "net") else module.head(module.backbone(images))
    return F.cross_entropy(logits, labels, **options)


LOSSES: dict[str, Callable[[Any], Tensor]] = {
    "autoencoder": autoencoder_loss,
    "cosine": functools.partial(label_loss, label_smoothing=0.1),
    "batch norm and dropout": label_loss,
    "fine-tuned": label_loss,
    "silent": label_loss,
}


class Measure(pl.Callback):
    """The loss of all training data after every step."""

    def __init__(self, loss: Callable[[Any], Tensor]) -> None:
        self.loss, self.heights = loss, list[float]()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.eval()
        with torch.no_grad():
            self.heights.append(float(self.loss(pl_module)))
        pl_module.train()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.on_train_start(trainer, pl_module)


def letters(heights: list[list[float]]) -> str:
    """The verdict of each learning rate, ascending, from its heights step by step."""
    finals = [statistics.median(column[-len(column) // 10 :]) if np.isfinite(column).all() else math.inf for column in heights]
    floor = min(finals)
    progress = [[(column[0] - height) / (column[0] - floor) for height in column] for column in heights]
    final = [(column[0] - end) / (column[0] - floor) for column, end in zip(heights, finals, strict=True)]
    times = [next((step for step, p in enumerate(column) if p >= 0.9), math.inf) for column in progress]
    stays = [time if end >= 0.9 else math.inf for time, end in zip(times, final, strict=True)]
    fastest = stays.index(min(stays))

    def letter(index: int) -> str:
        if stays[index] <= 3 * stays[fastest]:
            return "G"
        if index < fastest:
            return "L"
        return "D" if final[index] <= 0 else "H"

    return "".join(map(letter, range(len(heights))))


@pytest.mark.parametrize("name", LOSSES)
def test_verdicts_are_those_of_fits_by_hand(name: str) -> None:
    member, heights = ZOO[name], []
    for rate in member.rates():
        measure = Measure(LOSSES[name])
        fit_by_hand(member, rate, 0, member.epochs, measure)
        heights.append(measure.heights)
    assert re.fullmatch(member.verdicts, letters(heights)), letters(heights)


@pytest.mark.parametrize("name", LOSSES)
def test_height_is_the_mean_loss_of_the_training_data(name: str) -> None:
    member, measure = ZOO[name], Measure(LOSSES[name])
    rate = member.rates()[2]
    (run,) = train(Workload.of(**member.given()), [(rate, 0)], batch_size=member.batch_size, epochs=1)
    fit_by_hand(member, rate, 0, 1, measure)
    steps, heights = run.curves["height"]
    assert heights == pytest.approx([measure.heights[step] for step in steps], rel=1e-4)


# ---- learning rates, examples, instances ----


@pytest.mark.parametrize(("name", "shares"), [("fine-tuned", (0.1, 1)), ("layer rates", (1, 0.1))])
def test_layers_keep_their_share_of_the_learning_rate(name: str, shares: tuple[float, float]) -> None:
    RATES.clear()
    train(Workload.of(**watched(ZOO[name].given())), [(0.02, 0), (3.0, 0)], batch_size=16, epochs=1)
    assert RATES == [pytest.approx([rate * share for share in shares]) for rate in (0.02, 3.0)]


def test_instance_keeps_its_weights_and_lends_them_to_every_run() -> None:
    net = zoo.pretrained()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    STARTS.clear()
    watch = Watch()
    watch.on_train_start(pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), net)
    train(Workload.of(**watched({"model": net, "data": zoo.DigitsData()})), [(0.5, 0), (30, 1)], batch_size=16, epochs=1)
    assert len(STARTS) == 3 and len(set(STARTS)) == 1
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net.lr == 0.1


# ---- the user's callbacks and loggers ----

STOP = {"monitor": "val_loss", "patience": 1}
SPECS = {
    "callbacks": [
        {"class_path": "EarlyStopping", "init_args": STOP},
        "LearningRateMonitor",
        {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": {"monitor": "val_loss"}},
    ],
    "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "logs"}},
    "log_every_n_steps": 1,
}


def instances() -> dict[str, Any]:
    callbacks = [EarlyStopping("val_loss", patience=1), LearningRateMonitor(), ModelCheckpoint(monitor="val_loss")]
    return {"callbacks": callbacks, "logger": CSVLogger("logs"), "log_every_n_steps": 1}


def files(folder: Path) -> dict[str, list[str]]:
    """Kinds of files by the folder they are in, but for the storage."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("studies.db"):
            found.setdefault(str(path.parent.relative_to(folder)), []).append(re.sub(r".*\.ckpt", "ckpt", path.name))
    return found


@pytest.mark.parametrize("trainer", [lambda: SPECS, instances], ids=["specs", "instances"])
def test_callbacks_and_loggers_write_one_folder_a_run_and_nothing_elsewhere(
    trainer: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    config = PLAIN.config(tmp_path, trainer=trainer(), epochs=6)
    study = run_study(config)
    runs = [f"logs/lightning_logs/bs16_lr{rate:.6g}_s0" for rate in config.learning_rates]
    expected: dict[str, list[str]] = {run: ["hparams.yaml", "metrics.csv"] for run in runs}
    assert files(tmp_path) == expected | {f"{run}/checkpoints": ["ckpt"] for run in runs}
    assert "lr-SGD" in (tmp_path / runs[0] / "metrics.csv").read_text()
    epochs = [trial.user_attrs["facts"]["epochs"] for trial in study.trials]
    assert epochs[0] == 6 and min(epochs) < 6  # EarlyStopping, of each run alone
    judge_study(study)


def test_default_logger_writes_into_the_folder_of_the_study(tmp_path: Path) -> None:
    run_study(PLAIN.config(tmp_path, trainer={"logger": True, "log_every_n_steps": 1}, epochs=1, points=2))
    runs = [f"outputs/zoo/runs/bs16_lr{rate}_s0" for rate in ("0.001", "30")]
    assert files(tmp_path) == dict.fromkeys(runs, ["hparams.yaml", "metrics.csv"])


# ---- Lightning's two packages ----


def test_callbacks_of_the_other_package_work(tmp_path: Path) -> None:
    run_study(ZOO["other package"].config(tmp_path, trainer=SPECS | {"callbacks": SPECS["callbacks"][:2]}, epochs=1, points=2))
    runs = [f"logs/lightning_logs/bs16_lr{rate}_s0" for rate in ("0.01", "1000")]
    assert files(tmp_path) == dict.fromkeys(runs, ["metrics.csv"])


@pytest.mark.parametrize(
    ("model", "data", "sentence"),
    [
        (zoo.OtherNet, zoo.DigitsData, "OtherNet is of lightning.pytorch and DigitsData of pytorch_lightning"),
        (zoo.PlainNet, zoo.OtherData, "PlainNet is of pytorch_lightning and OtherData of lightning.pytorch"),
    ],
    ids=["module of lightning", "data of lightning"],
)
def test_mixed_packages_are_refused(model: type, data: type, sentence: str, tmp_path: Path) -> None:
    start = "model and data must come from one of Lightning's two packages, "
    with pytest.raises(ValueError, match=f"^{re.escape(f'{start}{sentence}: import both from the same')}$"):
        run_study(PLAIN.config(tmp_path, model=model, data=data))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["factory", "other package"])
def test_lightning_does_not_announce_every_run(name: str, caplog: pytest.LogCaptureFixture) -> None:
    for package in ("pytorch_lightning", "lightning.pytorch"):
        caplog.set_level(logging.INFO, logger=package)  # as importing it does
    train(Workload.of(**ZOO[name].given()), [(0.1, 0)], batch_size=16, epochs=1)
    assert caplog.messages == []
