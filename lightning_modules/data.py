"""Data sets for learning-rate studies: three that ship with scikit-learn, three that torchvision downloads."""

import os
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_modules.in_memory import InMemoryData, Splits

SPLIT_SEED = 7  # of the fixed 75 / 25 split of the scikit-learn sets; any number will do, but it must never change


class Digits(InMemoryData):
    """1,797 handwritten digits of 8 x 8 pixels from scikit-learn: 1,347 for training, 450 for validation, classes balanced.

    Inputs are float32 of shape (1, 8, 8), pixels / 16, from 0 to 1; labels int64.
    """

    input_shape = (1, 8, 8)
    n_outputs = 10

    def load(self) -> Splits:
        """The fixed split."""
        return _digits()


class Diabetes(InMemoryData):
    """442 patients from scikit-learn: 331 for training, 111 for validation; a regression.

    Ten inputs and one target (disease progression), all standardised by the training part's mean and standard deviation.
    Inputs are float32 of shape (10,), targets of shape (1,).
    """

    input_shape = (10,)
    n_outputs = 1

    def load(self) -> Splits:
        """The fixed split."""
        return _diabetes()


class Wine(InMemoryData):
    """178 wines of three growers from scikit-learn: 133 for training, 45 for validation, with the same share of each grower.

    Thirteen chemical measurements, standardised by the training part's mean and standard deviation. Inputs are float32 of
    shape (13,); labels int64.
    """

    input_shape = (13,)
    n_outputs = 3

    def load(self) -> Splits:
        """The fixed split."""
        return _wine()


class TorchvisionImages(InMemoryData):
    """Abstract: images of a torchvision data set, its test part for validation.

    Args:
        root: folder that holds the data set's own folder.
        download: fetch what is missing, 12 to 170 MB.
        batch_size, seed: as in ``InMemoryData``.

    Loading raises FileNotFoundError when the files are missing and ``download`` is off, ConnectionError when the download
    fails, and ValueError when the files are damaged.
    """

    folder: ClassVar[str]
    n_outputs = 10

    def __init__(self, batch_size: int = 64, seed: int = 0, root: str = "data", download: bool = False) -> None:
        super().__init__(batch_size, seed)
        self.root = root
        self.download = download

    def load(self) -> Splits:
        """The images as uint8, shape (n, channels, height, width), and their labels, int64."""
        kind, root = type(self).__name__, os.path.abspath(os.path.expanduser(self.root))
        try:
            return _images(kind, root, self.download)
        except (RuntimeError, OSError, ValueError, TypeError, AssertionError, EOFError) as error:
            reason = str(error).partition("\n")[0].rstrip(":")
            if reason.startswith("Dataset not found"):
                raise FileNotFoundError(
                    f"{kind} was not found in {self.root!r}: give data.root the folder that holds {self.folder},"
                    " or add --data.download true"
                ) from error
            if self.download and (isinstance(error, OSError) or reason.startswith(("Error downloading", "File not found"))):
                raise ConnectionError(
                    f"{kind} could not be downloaded to {self.root!r} ({reason}): check the network and that the folder"
                    f" can be written, or copy {self.folder} there"
                ) from error
            if isinstance(error, OSError):
                raise
            raise ValueError(
                f"{kind} in {self.root!r} is damaged ({reason or type(error).__name__}): delete {self.folder} there and add"
                " --data.download true"
            ) from error


class MNIST(TorchvisionImages):
    """60,000 handwritten digits for training and 10,000 for validation, 28 x 28 grey pixels (LeCun et al. 1998)."""

    input_shape = (1, 28, 28)
    folder = "MNIST/raw"
    mean, std = (0.1307,), (0.3081,)  # of the training part, as in pytorch/examples mnist/main.py


class FashionMNIST(TorchvisionImages):
    """60,000 pictures of clothes for training and 10,000 for validation, 28 x 28 grey pixels (Xiao et al. 2017)."""

    input_shape = (1, 28, 28)
    folder = "FashionMNIST/raw"
    mean, std = (0.2860,), (0.3530,)  # of the training part


class CIFAR10(TorchvisionImages):
    """50,000 photographs of ten things for training and 10,000 for validation, 32 x 32 colour pixels (Krizhevsky 2009)."""

    input_shape = (3, 32, 32)
    folder = "cifar-10-batches-py"
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training part, as in airbench94.py


@lru_cache(maxsize=1)
def _digits() -> Splits:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    inputs, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(inputs / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    parts = train_test_split(inputs, torch.tensor(labels), test_size=0.25, random_state=SPLIT_SEED, stratify=labels)
    return _splits(*parts)


@lru_cache(maxsize=1)
def _diabetes() -> Splits:
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    inputs, targets = load_diabetes(return_X_y=True)
    parts = train_test_split(inputs, targets[:, None], test_size=0.25, random_state=SPLIT_SEED)
    return _splits(*_standardised(*parts[:2]), *_standardised(*parts[2:]))


@lru_cache(maxsize=1)
def _wine() -> Splits:
    from sklearn.datasets import load_wine
    from sklearn.model_selection import train_test_split

    inputs, labels = load_wine(return_X_y=True)
    parts = train_test_split(inputs, torch.tensor(labels), test_size=0.25, random_state=SPLIT_SEED, stratify=labels)
    return _splits(*_standardised(*parts[:2]), *parts[2:])


def _standardised(train: Any, val: Any) -> tuple[Tensor, Tensor]:
    """Both parts, float32, by the training part's mean and standard deviation, column by column."""
    mean, std = train.mean(axis=0), train.std(axis=0)
    scaled, scaled_val = (torch.tensor((part - mean) / std, dtype=torch.float32) for part in (train, val))
    return scaled, scaled_val


@lru_cache(maxsize=4)
def _images(kind: str, root: str, download: bool) -> Splits:
    from torchvision import datasets  # 1.5 s to import

    train, val = (getattr(datasets, kind)(root, train=part, download=download) for part in (True, False))
    return Splits(_tensors(train), _tensors(val))


def _tensors(images: Any) -> TensorDataset:
    """Pixels and labels of a torchvision data set, without a second copy of the pixels where the layout allows."""
    pixels = torch.as_tensor(images.data)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return TensorDataset(pixels, torch.as_tensor(images.targets))


def _splits(inputs: Tensor, inputs_val: Tensor, targets: Tensor, targets_val: Tensor) -> Splits:
    return Splits(TensorDataset(inputs, targets), TensorDataset(inputs_val, targets_val))
