"""A run that was killed goes on from its last whole epoch and ends as if nothing had happened."""

from __future__ import annotations

import errno
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from test_studies_preflight import INPUTS, LABELS
from test_studies_search import module, small, states
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_modules.checkpoint import KEY, CheckpointNotWritten, checkpoint_file
from studies import Workload, run_study, train
from studies.training.runs import Run

EPOCHS = 5
ROOT = Path(__file__).parents[1]


class Watch(pl.Callback):
    """Stops the run once, at a batch of an epoch, and keeps the epochs that began and the weights that came out."""

    stop_at: ClassVar[tuple[int, int] | None] = None
    epochs: ClassVar[list[int]] = []
    weights: ClassVar[list[Tensor]] = []
    learning_rates: ClassVar[list[list[float]]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Watch.epochs.append(trainer.current_epoch)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        Watch.learning_rates.append([group["lr"] for each in trainer.optimizers for group in each.param_groups])
        if Watch.stop_at == (trainer.current_epoch, batch_idx):
            Watch.stop_at = None
            raise KeyboardInterrupt

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Watch.weights = [value.clone() for value in pl_module.state_dict().values()]


@pytest.fixture(autouse=True)
def _watch_anew() -> Iterator[None]:
    yield
    Watch.stop_at, Watch.epochs, Watch.weights, Watch.learning_rates = None, [], [], []


class Dropping(nn.Sequential):
    def __init__(self, input_shape: Any = None, n_outputs: int = 10) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, n_outputs)
        )


class Noisy(Dataset[Any]):
    """Adds noise of NumPy, of Python, and of a generator of its own."""

    def __init__(self) -> None:
        self.own = np.random.default_rng(5)

    def __len__(self) -> int:
        return len(INPUTS)

    def __getitem__(self, index: int) -> Any:
        noise = np.random.normal() + random.random() + self.own.normal()
        return INPUTS[index] + 0.1 * float(noise), LABELS[index]


class Users(pl.LightningModule):
    """With dropout, a metric logged in training, a rate that in the third epoch looks at the validation of the second, and an
    argument of a class of its own.
    """

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters({"lr": lr, "place": Path("somewhere")})
        self.lr = lr
        self.network = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, labels = batch
        loss = cross_entropy(self.network(inputs), labels)
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("valid/loss", cross_entropy(self.network(batch[0]), batch[1]))

    def train_dataloader(self) -> Any:
        return DataLoader(Noisy(), 8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(INPUTS, LABELS), 40)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "valid/loss", "frequency": 3}}


WATCHED = {"callbacks": [Watch()], "logger": False}


def digits() -> Workload:
    model = {"class_path": "ImageClassifier", "init_args": {"momentum": 0.9, "network": {"class_path": f"{__name__}.Dropping"}}}
    cosine = {"class_path": "CosineAnnealingLR", "init_args": {"T_max": EPOCHS}}
    sgd = {"class_path": "SGD", "init_args": {"momentum": 0.9}}
    return Workload.of(model, "Digits", {**WATCHED, "limit_train_batches": 10}, optimizer=sgd, lr_scheduler=cosine)


def parabola() -> Workload:
    data = {"class_path": "ParabolaData", "init_args": {"noise": 0.1}}
    return Workload.of({"class_path": "Parabola", "init_args": {"eigenvalues": [1.0, 4.0]}}, data, WATCHED)


def users() -> Workload:
    return Workload.of(Users, None, {**WATCHED, "check_val_every_n_epoch": 2, "accumulate_grad_batches": 2})


def kept(workload: Workload, folder: Path | None, rate: float = 0.1, seed: int = 3, epochs: int = EPOCHS) -> Run:
    """The run, its seconds left out."""
    (run,) = train(workload, [(rate, seed)], batch_size=8, epochs=epochs, checkpoint=folder)
    return replace(run, seconds=0.0)


def stopped(workload: Workload, folder: Path, epoch: int, batch: int = 1, **options: Any) -> None:
    Watch.stop_at = epoch, batch
    with pytest.raises(KeyboardInterrupt):
        kept(workload, folder, **options)


def file_in(folder: Path) -> Path:
    return checkpoint_file(folder, 0.1, 8, 3)


@pytest.mark.parametrize("make", [digits, parabola, users])
def test_run_stopped_in_any_epoch_ends_to_the_bit_as_the_unbroken_one(make: Any, tmp_path: Path) -> None:
    workload = make()
    unbroken, weights = kept(workload, None), Watch.weights
    assert len(unbroken.curves["height"][0]) > EPOCHS
    for epoch in range(EPOCHS):
        Watch.epochs.clear()
        stopped(workload, tmp_path / str(epoch), epoch)
        assert kept(workload, tmp_path / str(epoch)) == unbroken
        assert Watch.epochs == [*range(epoch + 1), *range(epoch, EPOCHS)]
        assert all(torch.equal(one, other) for one, other in zip(Watch.weights, weights, strict=True))


def test_run_stopped_again_and_again_ends_as_the_unbroken_one(tmp_path: Path) -> None:
    workload = digits()
    for epoch in (1, 1, 3, 4):
        stopped(workload, tmp_path, epoch)
    assert kept(workload, tmp_path) == kept(workload, None)
    assert Watch.epochs == [0, 1, 1, 1, 2, 3, 3, 4, 4, *range(EPOCHS)]


def test_diverging_run_is_found_so_after_it_was_stopped(tmp_path: Path) -> None:
    workload = parabola()
    unbroken = kept(workload, None, rate=8.0, epochs=200)
    assert unbroken.nonfinite_at is not None and unbroken.epochs > 3
    stopped(workload, tmp_path, 2, rate=8.0, epochs=200)
    assert kept(workload, tmp_path, rate=8.0, epochs=200) == unbroken


def test_seconds_before_a_run_was_stopped_count(tmp_path: Path) -> None:
    workload = digits()
    stopped(workload, tmp_path, 2)
    before = torch.load(file_in(tmp_path), weights_only=True)[KEY]["seconds"]
    stopped(workload, tmp_path, 4)
    later = torch.load(file_in(tmp_path), weights_only=True)[KEY]["seconds"]
    (run,) = train(workload, [(0.1, 3)], batch_size=8, epochs=EPOCHS, checkpoint=tmp_path)
    assert 0 < before < later < run.seconds


def test_members_have_a_checkpoint_each_that_stays(tmp_path: Path) -> None:
    train(parabola(), [(0.3, 0), (0.3, 1), (0.1 + 0.2, 0)], batch_size=8, epochs=2, checkpoint=tmp_path)
    names = ["bs8_lr0.30000000000000004_s0.ckpt", "bs8_lr0.3_s0.ckpt", "bs8_lr0.3_s1.ckpt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


# ---- what cannot be used ----


def test_flipped_bytes_never_change_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workload = parabola()
    unbroken = kept(workload, None)
    stopped(workload, tmp_path, 3)
    whole = file_in(tmp_path).read_bytes()
    chance = random.Random(0)
    for _ in range(40):
        broken = bytearray(whole)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        file_in(tmp_path).write_bytes(broken)
        assert kept(workload, tmp_path) == unbroken
    assert caplog.text.count("is not used, the run starts over") > 20


@pytest.mark.parametrize(
    "content", [b"", b"these are notes", b"PK\x05\x06" + bytes(18), None], ids=["empty", "text", "zip", "cut"]
)
def test_file_that_is_no_checkpoint_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    workload = parabola()
    stopped(workload, tmp_path, 3)
    file = file_in(tmp_path)
    file.write_bytes(file.read_bytes()[:-1000] if content is None else content)
    assert kept(workload, tmp_path) == kept(workload, None)
    assert f"checkpoint {file} is not used, the run starts over: " in caplog.text


def test_checkpoint_of_other_settings_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workload = parabola()
    stopped(workload, tmp_path, 3)
    assert kept(workload, tmp_path, epochs=EPOCHS + 1) == kept(workload, None, epochs=EPOCHS + 1)
    other = Workload.of("Parabola", None, WATCHED)
    assert kept(other, tmp_path) == kept(other, None)
    assert caplog.text.count("the run starts over: it is of other settings") == 2


class Grown(Users):
    """Of the same name as a module whose code has changed."""

    wide: ClassVar[bool] = False

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        if Grown.wide:
            self.network = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 3))


def test_checkpoint_of_a_module_that_has_changed_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(Workload.of(Grown, None, WATCHED), tmp_path, 3)
    monkeypatch.setattr(Grown, "wide", True)
    changed = Workload.of(Grown, None, WATCHED)
    assert kept(changed, tmp_path) == kept(changed, None)
    assert "is not used, the run starts over: RuntimeError: Error(s) in loading state_dict for Grown" in caplog.text


class Holding(Users):
    """Keeps an object of a class of its own in its checkpoints."""

    held: ClassVar[Any] = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["place"] = Holding.held


@pytest.mark.parametrize(
    ("held", "named"),
    [(Path("somewhere"), "pathlib.PosixPath"), (lambda: 0, "PicklingError|AttributeError")],
    ids=["path", "lambda"],
)
def test_state_that_cannot_be_read_back_safely_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, held: Any, named: str
) -> None:
    monkeypatch.setattr(Holding, "held", held)
    kept(Workload.of(Holding, None, WATCHED), tmp_path)
    assert [record.message for record in caplog.records if re.search(named, record.message)] == [caplog.records[-1].message]
    assert "the run is not kept in checkpoints: its state holds what cannot be read back safely" in caplog.text
    assert list(tmp_path.iterdir()) == []


# ---- disks ----


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_full_disk_is_an_error_that_names_the_file_and_costs_nothing(tmp_path: Path) -> None:
    workload = parabola()
    stopped(workload, tmp_path, 2)
    part = Path(f"{file_in(tmp_path)}.part")
    part.symlink_to("/dev/full")
    with pytest.raises(CheckpointNotWritten, match=rf"No space left on device: '{file_in(tmp_path)}'") as raised:
        kept(workload, tmp_path)
    assert raised.value.errno == errno.ENOSPC
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # on the way from a worker
    part.unlink()
    Watch.epochs.clear()
    assert kept(workload, tmp_path) == kept(workload, None)
    assert Watch.epochs == [*range(2, EPOCHS), *range(EPOCHS)]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointNotWritten, match=f"'{tmp_path}/file/bs8_lr0.1_s3.ckpt'"):
        kept(parabola(), tmp_path / "file")


# ---- what users see ----


def test_checkpoints_of_the_users_own_stay_as_they_are(tmp_path: Path) -> None:
    contents = []
    for name, folder in (("without", None), ("with", tmp_path / "checkpoints")):
        place = tmp_path / name
        callbacks = [pl.callbacks.ModelCheckpoint(dirpath=place, filename="last")]
        workload = Workload.of("Parabola", None, {"callbacks": callbacks, "logger": False})
        kept(workload, folder)
        (path,) = place.rglob("*.ckpt")
        contents.append(torch.load(path, weights_only=False))
    without, given = contents
    assert without.keys() == given.keys() and KEY not in given
    assert [key.partition("{")[0] for key in given["callbacks"]] == ["ModelCheckpoint"]


def test_killed_processes_leave_a_run_that_ends_as_the_unbroken_one() -> None:
    script = ROOT / "tests" / "endurance" / "checkpoints.py"
    done = subprocess.run([sys.executable, script, "--rounds", "3", "--seed", "1"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert re.match(r"\d+ kills of \d runs of 40 epochs: 0 differ from the unbroken run", done.stdout)


def test_study_goes_on_inside_the_run_that_was_interrupted_and_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = str(tmp_path / "stopped")
    line = (
        f"if counts['steps'] == 23 and not os.path.exists({stopped!r}): open({stopped!r}, 'w').close(); raise KeyboardInterrupt"
    )
    model = module(tmp_path, monkeypatch, "interrupted", line)
    config = small(tmp_path, model=model, learning_rate=(1, 1), points=1, epochs=5, workers=1, checkpoint=True)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_study(config, out=out)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["bs256_lr1.0_s0.ckpt"]
    study = run_study(config, out=out)
    assert not (out / "checkpoints").exists() and states(study) == ["FAIL", "COMPLETE"]
    assert sys.modules["interrupted"].counts["steps"] == 23 + 2 + 5  # two of the preflight and the epoch that was broken off
