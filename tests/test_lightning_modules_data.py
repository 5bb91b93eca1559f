"""Data in memory: what is loaded, how it is served, what it costs, and what is said when it cannot be."""

from __future__ import annotations

import logging
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import psutil
import pytest
import pytorch_lightning as pl
import torch
import torchvision
from conftest import QUIET
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_modules import (
    CIFAR10,
    MLP,
    MNIST,
    Batches,
    Diabetes,
    Digits,
    FashionMNIST,
    ImageClassifier,
    InMemoryData,
    Splits,
    Wine,
)
from lightning_modules.in_memory import hold


def write_idx(folder: Path, *, n_train: int, n_val: int = 20) -> Tensor:
    """MNIST's four files with random pixels; returns the training pixels, shape (n_train, 28, 28)."""
    folder.mkdir(parents=True)
    kept = None
    for part, n in (("train", n_train), ("t10k", n_val)):
        pixels = np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)
        kept = pixels if kept is None else kept
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, n, 28, 28) + pixels.tobytes())
        labels = np.arange(n, dtype=np.int64).astype(np.uint8) % 10
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, n) + labels.tobytes())
    return torch.as_tensor(kept)


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """CIFAR-10's files with 10 random images each; returns the training pixels, shape (50, 3, 32, 32)."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    source = torchvision.datasets.CIFAR10
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3 * 32 * 32), dtype=np.uint8)
    for number, (name, _) in enumerate([*source.train_list, *source.test_list]):
        part = {"data": pixels[10 * number : 10 * number + 10], "labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(part))
    (folder / source.meta["filename"]).write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(source, "train_list", [[name, None] for name, _ in source.train_list])  # no checksums
    monkeypatch.setattr(source, "test_list", [[name, None] for name, _ in source.test_list])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": None})
    return torch.as_tensor(pixels[:50]).reshape(50, 3, 32, 32)


class Squares(Dataset[tuple[Tensor, int]]):
    """A map-style data set of n one-channel 4 x 4 images of bytes; counts its reads."""

    def __init__(self, n: int = 10) -> None:
        self.n = n
        self.reads = 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        return torch.full((1, 4, 4), index, dtype=torch.uint8), index % 2


class SquaresData(InMemoryData):
    """Ten squares to train on and five to validate on."""

    input_shape, n_outputs = (1, 4, 4), 2

    def load(self) -> Splits:
        return Splits(Squares(10), Squares(5))


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch):
    full = psutil.virtual_memory()._replace(available=100)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: full)
    monkeypatch.setattr("lightning_modules.in_memory._warned", set())


# The data sets


def test_digits_are_the_reference_split():
    digits = load_digits()
    parts = train_test_split(digits.data / 16, digits.target, test_size=0.25, random_state=7, stratify=digits.target)
    train, val = Digits().splits
    for ours, theirs in zip((*train.tensors, *val.tensors), (parts[0], parts[2], parts[1], parts[3]), strict=True):
        assert torch.equal(ours.flatten(1) if ours.ndim > 1 else ours, torch.tensor(theirs).to(ours.dtype))
    assert train.tensors[0].shape == (1_347, 1, 8, 8) and train.tensors[0].dtype == torch.float32
    assert train.tensors[1].dtype == torch.int64


def test_diabetes_is_the_reference_split_standardised_on_the_training_part():
    a, b, target, target_val = train_test_split(*load_diabetes(return_X_y=True), test_size=0.25, random_state=7)
    scaler = StandardScaler().fit(a)
    expected = (scaler.transform(a), (target - target.mean()) / target.std())
    expected_val = (scaler.transform(b), (target_val - target.mean()) / target.std())
    train, val = Diabetes().splits
    for ours, theirs in zip((*train.tensors, *val.tensors), (*expected, *expected_val), strict=True):
        torch.testing.assert_close(ours, torch.tensor(theirs, dtype=torch.float32).reshape(ours.shape))
    assert train.tensors[0].shape == (331, 10) and train.tensors[1].shape == (331, 1)


def test_wine_is_the_reference_split_standardised_on_the_training_part():
    wines, growers = load_wine(return_X_y=True)
    a, b, labels, labels_val = train_test_split(wines, growers, test_size=0.25, random_state=7, stratify=growers)
    scaler = StandardScaler().fit(a)
    train, val = Wine().splits
    for ours, theirs in ((train.tensors[0], scaler.transform(a)), (val.tensors[0], scaler.transform(b))):
        torch.testing.assert_close(ours, torch.tensor(theirs, dtype=torch.float32))
    assert train.tensors[1].tolist() == labels.tolist() and val.tensors[1].tolist() == labels_val.tolist()
    assert train.tensors[0].shape == (133, 13) and train.tensors[1].dtype == torch.int64


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_idx_images_are_kept_as_bytes_and_served_normalised(kind: type[Any], tmp_path: Path):
    pixels = write_idx(tmp_path / kind.__name__ / "raw", n_train=50)
    data = kind(root=str(tmp_path))
    train, _ = data.splits
    assert data.n_train == 50
    assert train.tensors[0].dtype == torch.uint8 and train.tensors[1].dtype == torch.int64
    [(inputs, labels)] = list(data.val_dataloader())
    assert inputs.shape == (20, *kind.input_shape) and labels.tolist() == [i % 10 for i in range(20)]
    served = Batches(*train.tensors, batch_size=50, shuffle=False, transform=data._as_floats(train.tensors[0]))
    normalise = torchvision.transforms.Normalize(kind.mean, kind.std)
    torch.testing.assert_close(next(iter(served))[0], normalise(pixels[:, None] / 255))


def test_cifar10_images_are_channels_first_and_normalised_by_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels = write_cifar(tmp_path, monkeypatch)
    data = CIFAR10(root=str(tmp_path), batch_size=50)
    assert torch.equal(data.splits.train.tensors[0], pixels)
    assert data.splits.train.tensors[0].is_contiguous()
    inputs, labels = next(iter(data.val_dataloader()))
    assert inputs.shape == (10, 3, 32, 32) and labels.tolist() == list(range(10))
    normalise = torchvision.transforms.Normalize(CIFAR10.mean, CIFAR10.std)
    torch.testing.assert_close(inputs, normalise(data.splits.val.tensors[0] / 255))


@pytest.mark.parametrize("kind", [Digits, Diabetes, Wine, MNIST, FashionMNIST, CIFAR10])
def test_shapes_are_known_without_loading(kind: type[InMemoryData]):
    network = MLP(kind.input_shape, kind.n_outputs)
    assert network(torch.zeros(2, *kind.input_shape)).shape == (2, kind.n_outputs)
    assert "splits" not in vars(kind())


def test_a_hundred_datamodules_share_one_copy(tmp_path: Path):
    write_idx(tmp_path / "MNIST" / "raw", n_train=50)
    for build in (Digits, Diabetes, Wine, lambda: MNIST(root=str(tmp_path))):
        modules = [build() for _ in range(100)]  # all alive at once, or the next copy could get the last one's address
        assert len({data.splits.train.tensors[0].data_ptr() for data in modules}) == 1


HELD = """
import sys
import psutil
from lightning_modules import MNIST
warm, root = sys.argv[1:]
for _ in MNIST(root=warm).val_dataloader():  # imports, and the first allocations of threads
    pass
before = psutil.Process().memory_info().rss
data = MNIST(root=root, batch_size=64)
for _ in data.train_dataloader():
    pass
data.probe_batches()
print((psutil.Process().memory_info().rss - before) / 1e6)
"""


def test_holding_bytes_costs_at_most_a_fifth_more_than_the_bytes(tmp_path: Path):
    write_idx(tmp_path / "warm" / "MNIST" / "raw", n_train=50)
    write_idx(tmp_path / "MNIST" / "raw", n_train=51_000)
    megabytes = 51_000 * 784 / 1e6
    # In a process of its own: this one keeps what other tests have freed, and would put the bytes there.
    code = [sys.executable, "-c", HELD, str(tmp_path / "warm"), str(tmp_path)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert 0.9 * megabytes < float(done.stdout) <= 1.2 * megabytes


# What cannot be loaded


@pytest.mark.parametrize(
    ("kind", "folder"), [(MNIST, "MNIST/raw"), (FashionMNIST, "FashionMNIST/raw"), (CIFAR10, "cifar-10-batches-py")]
)
def test_missing_images_are_reported_with_the_remedy(kind: type[Any], folder: str, tmp_path: Path):
    sentence = (
        f"^{kind.__name__} was not found in '{tmp_path}': give data.root the folder that holds {folder},"
        " or add --data.download true$"
    )
    with pytest.raises(FileNotFoundError, match=sentence):
        kind(root=str(tmp_path)).setup()


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, CIFAR10])
def test_a_failed_download_is_reported_with_the_remedy(kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    sentence = rf"^{kind.__name__} could not be downloaded to '.*' \(.+\): check the network .* or copy {kind.folder} there$"
    with pytest.raises(ConnectionError, match=sentence):
        kind(root=str(tmp_path / "new"), download=True).setup()


@pytest.mark.parametrize("kept_bytes", [0, 10, 5_000])
def test_damaged_images_are_reported_with_the_remedy(kept_bytes: int, tmp_path: Path):
    write_idx(tmp_path / "MNIST" / "raw", n_train=50)
    images = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:kept_bytes])
    sentence = r"^MNIST in '.*' is damaged \(.+\): delete MNIST/raw there and add --data.download true$"
    with pytest.raises(ValueError, match=sentence):
        MNIST(root=str(tmp_path)).setup()


# Batches


def test_training_batches_are_whole_disjoint_and_drop_the_rest():
    batches = Batches(torch.arange(10), torch.arange(10), batch_size=4, shuffle=True)
    epoch = [inputs for inputs, _ in batches]
    assert len(batches) == len(epoch) == 2
    assert [len(inputs) for inputs in epoch] == [4, 4]
    assert len(set(torch.cat(epoch).tolist())) == 8


def test_orders_follow_from_the_seed_and_differ_between_epochs():
    def orders(seed: int) -> list[list[int]]:
        batches = Batches(torch.arange(50), torch.arange(50), batch_size=10, shuffle=True, seed=seed)
        return [torch.cat([targets for _, targets in batches]).tolist() for _ in range(3)]

    first = orders(1)
    assert first == orders(1)
    assert len({tuple(order) for order in first + orders(2)}) == 6
    assert all(sorted(order) == list(range(50)) for order in first)


def test_asking_for_an_iterator_alone_does_not_change_the_order():
    plain, asked = (Batches(torch.arange(9), torch.arange(9), batch_size=9, shuffle=True) for _ in range(2))
    iter(asked)  # as Lightning does to see whether it can
    assert torch.equal(next(iter(plain))[1], next(iter(asked))[1])


def test_inputs_stay_with_their_targets():
    inputs = torch.arange(20).reshape(20, 1).repeat(1, 3)
    for x, y in Batches(inputs, torch.arange(20), batch_size=6, shuffle=True):
        assert torch.equal(x, y[:, None].expand(-1, 3))


def test_evaluation_keeps_every_example_in_order():
    batches = Batches(torch.arange(10), torch.arange(10), batch_size=4, shuffle=False)
    epoch = [targets for _, targets in batches]
    assert len(batches) == len(epoch) == 3
    assert torch.equal(torch.cat(epoch), torch.arange(10))


def test_a_transform_never_changes_what_is_held():
    pixels = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8)
    floats, copy = pixels.float(), pixels.clone()
    for held in (pixels, floats):
        for inputs, _ in Batches(held, torch.zeros(12), batch_size=5, shuffle=True, transform=lambda x: x.float() + 1):
            inputs.zero_()
    assert torch.equal(pixels, copy) and torch.equal(floats, copy.float())


# The datamodule


def test_batch_size_and_seed_set_after_construction_are_the_ones_used():
    data = Digits()
    data.batch_size, data.seed = 100, 3
    inputs, labels = next(iter(data.train_dataloader()))
    assert len(inputs) == 100
    assert torch.equal(labels, next(iter(Digits(batch_size=100, seed=3).train_dataloader()))[1])
    assert not torch.equal(labels, next(iter(Digits(batch_size=100, seed=4).train_dataloader()))[1])


@pytest.mark.parametrize("batch_size", [0, -1, 1_348])
def test_a_batch_size_no_batch_can_have_is_refused(batch_size: int):
    with pytest.raises(ValueError, match=rf"batch_size must be between 1 and 1347 \(the training set\), got {batch_size}"):
        Digits(batch_size=batch_size).train_dataloader()


def test_the_probe_set_is_the_same_for_every_batch_size_and_seed():
    [(inputs, labels)] = Digits(batch_size=16, seed=0).probe_batches(100)
    [(others, _)] = Digits(batch_size=512, seed=9).probe_batches(100)
    assert torch.equal(inputs, others)
    assert len(inputs) == 100 and set(labels.tolist()) == set(range(10))


def test_the_probe_set_is_every_training_example_when_there_are_few():
    probe = Digits().probe_batches()
    assert [len(labels) for _, labels in probe] == [1_347]
    assert torch.equal(probe[0][1].bincount(), Digits().splits.train.tensors[1].bincount())


def test_probe_batches_hold_at_most_2048_examples_as_many_at_once_as_are_quick(tmp_path: Path):
    write_idx(tmp_path / "MNIST" / "raw", n_train=3_000)
    data = MNIST(root=str(tmp_path))
    assert [len(labels) for _, labels in data.probe_batches(5_000)] == [1_024, 1_024, 952]
    assert [len(labels) for _, labels in data.probe_batches()] == [1_024, 1_024]


def test_an_empty_probe_set_is_refused():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        Digits().probe_batches(0)


# Any map-style data set


def test_the_base_cannot_be_built_without_a_load():
    with pytest.raises(TypeError, match="abstract method '?load"):
        InMemoryData()


def test_a_map_style_data_set_is_read_once_and_served_from_memory():
    squares = Squares(10)
    held = hold(squares)
    assert isinstance(held, TensorDataset)
    assert held.tensors[0].dtype == torch.uint8 and held.tensors[0][:, 0, 0, 0].tolist() == list(range(10))
    assert held.tensors[1].tolist() == [0, 1] * 5
    assert squares.reads == 11  # the first example tells the size
    inputs, _ = next(iter(SquaresData(batch_size=10).train_dataloader()))
    torch.testing.assert_close(inputs.amax(), torch.tensor(9 / 255))


def test_bytes_that_are_no_images_are_scaled_too():
    class Table(InMemoryData):
        def load(self) -> Splits:
            return Splits(TensorDataset(torch.full((6, 3), 255, dtype=torch.uint8), torch.zeros(6)), None)

    assert torch.equal(Table().probe_batches()[0][0], torch.ones(6, 3))


def test_data_too_large_for_memory_are_read_by_a_loader_with_one_warning(no_memory: None, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="lightning_modules.in_memory"):
        loaders = [SquaresData(batch_size=4).train_dataloader() for _ in range(3)]
    assert all(isinstance(loader, DataLoader) for loader in loaders)
    sentence = "Squares needs {} GB and 8e-08 GB of memory are free for it: it is read example by example, which is slower"
    assert caplog.messages == [sentence.format("2.4e-07"), sentence.format("1.2e-07")]  # training, validation; not each run


def test_data_read_by_a_loader_keep_the_promises_of_data_in_memory(no_memory: None):
    def order(seed: int) -> list[int]:
        return [name for inputs, _ in SquaresData(4, seed).train_dataloader() for name in names(inputs)]

    def names(inputs: Tensor) -> list[int]:  # squares are filled with their number, which is scaled as pixels are
        assert inputs.dtype == torch.float32
        return (inputs[:, 0, 0, 0] * 255).round().int().tolist()

    assert order(1) == order(1) != order(2)
    assert len(set(order(1))) == 8  # the last, smaller batch is left out
    data = SquaresData(batch_size=4)
    assert [name for inputs, _ in data.val_dataloader() for name in names(inputs)] == list(range(5))
    probe = [names(inputs) for inputs, _ in data.probe_batches()]
    assert [len(part) for part in probe] == [4, 4, 2] and sorted(sum(probe, [])) == list(range(10))
    with pytest.raises(ValueError, match=r"batch_size must be between 1 and 10 \(the training set\), got 11"):
        SquaresData(batch_size=11).train_dataloader()


class Broken(Squares):
    """Squares whose last example is something else."""

    def __init__(self, last: Any, n: int = 3) -> None:
        super().__init__(n)
        self.last = last

    def __getitem__(self, index: int) -> Any:
        return self.last if index == self.n - 1 else super().__getitem__(index)


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        (Squares(0), "a data set must hold at least 1 example, got 0"),
        (Broken((torch.zeros(1, 4, 5), 0)), r"examples must have the shape of the first, \(1, 4, 4\), got \(1, 4, 5\) at 2"),
        (Broken((torch.zeros(1), 0)), r"examples must have the shape of the first, \(1, 4, 4\), got \(1,\) at 2"),
        (Broken(("image", 0), n=1), r"pairs of a tensor and a label, got \(str, int\): give the data set a transform"),
        (Broken(torch.zeros(3), n=1), r"pairs of a tensor and a label, got \(Tensor\)"),
    ],
    ids=["empty", "other shape", "broadcastable shape", "no tensor", "no pair"],
)
def test_data_sets_that_cannot_be_held_are_refused_in_one_sentence(dataset: Squares, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        hold(dataset)


# Under Lightning


def test_lightning_trains_and_validates_on_it(tmp_path: Path):
    write_idx(tmp_path / "MNIST" / "raw", n_train=50)
    trainer = pl.Trainer(max_epochs=3, **QUIET)
    trainer.fit(ImageClassifier(MLP((1, 28, 28))), datamodule=MNIST(batch_size=16, root=str(tmp_path)))
    assert trainer.global_step == 9
    assert set(trainer.callback_metrics) == {"val_loss", "val_accuracy"}


def test_lightning_trains_without_validation_data():
    class OnlyTraining(SquaresData):
        def load(self) -> Splits:
            return Splits(Squares(10), None)

    trainer = pl.Trainer(max_epochs=2, **QUIET)
    trainer.fit(ImageClassifier(MLP((1, 4, 4), 2)), datamodule=OnlyTraining(batch_size=5))
    assert trainer.global_step == 4 and trainer.callback_metrics == {}
