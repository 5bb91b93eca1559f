"""Data held in memory as tensors and served by index, because reading examples one by one costs more than training."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import psutil
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from lightning_modules.loaders import PROBE_BYTES, PROBE_SEED

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]

MEMORY_SHARE = 0.8  # of the memory available now; the rest is for the network and its neighbours


class Splits(NamedTuple):
    """Training and validation examples; a ``TensorDataset`` (inputs, targets) is used as it is, another data set is held."""

    train: Dataset[Any]
    val: Dataset[Any] | None


@dataclass(eq=False)
class Batches:
    """Iterates over (inputs, targets) in batches picked by index; no Python per example.

    In training (``shuffle``) every epoch has a new order, drawn from one generator, so that all orders follow from
    ``seed``; the last, smaller batch is left out, so that every step has the same noise. Otherwise the order is as
    given and all examples are kept.

    Args:
        inputs, targets: tensors with the same number of examples, on the first axis.
        batch_size: examples a batch, at least 1.
        shuffle: whether this is for training.
        seed: of the order of examples.
        transform: applied to each batch of inputs, such as uint8 to float.
    """

    inputs: Tensor
    targets: Tensor
    _: KW_ONLY
    batch_size: int
    shuffle: bool
    seed: int = 0
    transform: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.targets), self.batch_size)
        return whole + (rest > 0 and not self.shuffle)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.targets), generator=self._generator) if self.shuffle else None
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            part = slice(start, start + self.batch_size)
            if order is None:
                inputs, targets = self.inputs[part], self.targets[part]
            else:  # index_select: five times faster than inputs[order] for rows of bytes
                inputs, targets = self.inputs.index_select(0, order[part]), self.targets.index_select(0, order[part])
            yield (self.transform(inputs) if self.transform else inputs), targets


class InMemoryData(pl.LightningDataModule, ABC):
    """Abstract: a datamodule whose examples are loaded at first use and kept; children say what ``load`` gives.

    Images stay uint8 and become floats a batch at a time: ``(pixel / 255 - mean) / std`` a channel. A data set that would
    not fit into memory is read example by example through a ``DataLoader`` instead, with one warning; one that fits is read
    once, so a random transform inside it would be frozen.

    ``load`` is called once an instance, and a study makes an instance a run. To share one copy, cache what is held:

    >>> import functools
    >>> @functools.lru_cache
    ... def faces() -> Splits:
    ...     pixels = torch.zeros(100, 1, 8, 8, dtype=torch.uint8)
    ...     return Splits(hold(TensorDataset(pixels, torch.arange(100) % 2)), None)
    >>> class Faces(InMemoryData):
    ...     input_shape, n_outputs = (1, 8, 8), 2
    ...
    ...     def load(self) -> Splits:
    ...         return faces()
    >>> inputs, labels = next(iter(Faces(batch_size=32).train_dataloader()))
    >>> inputs.shape, inputs.dtype
    (torch.Size([32, 1, 8, 8]), torch.float32)

    Attributes:
        input_shape, n_outputs: of the network; class attributes, known without loading.
        mean, std: of the pixels divided by 255, one a channel.
        batch_size: examples a training batch, from 1 to ``n_train``; read when the loader is made, as is ``seed``.
        seed: of the order of training examples, and of nothing else.
    """

    input_shape: tuple[int, ...]
    n_outputs: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __init__(self, batch_size: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed

    @abstractmethod
    def load(self) -> Splits:
        """The examples, as (inputs, targets) tensors or as any map-style data set of (tensor, label) pairs."""

    @cached_property
    def splits(self) -> Splits:
        """What ``load`` gives, held in memory where it fits."""
        train, val = self.load()
        return Splits(hold(train), None if val is None else hold(val))

    @property
    def n_train(self) -> int:
        """Number of training examples; loads them."""
        return _length(self.splits.train)

    def setup(self, stage: str | None = None) -> None:
        """Load the examples now rather than at first use."""
        self.splits  # noqa: B018

    def train_dataloader(self) -> Iterable[Batch]:
        """Shuffled batches of ``batch_size``; the last, smaller one is left out so that every step has the same noise.

        Raises ValueError for a batch size below 1 or above the number of training examples.
        """
        train = self.splits.train
        if not 1 <= self.batch_size <= _length(train):
            raise ValueError(f"batch_size must be between 1 and {_length(train)} (the training set), got {self.batch_size}")
        if not isinstance(train, TensorDataset):
            generator = torch.Generator().manual_seed(self.seed)
            return DataLoader(
                train, self.batch_size, shuffle=True, drop_last=True, generator=generator, collate_fn=self._collate
            )
        inputs, targets = train.tensors
        return Batches(
            inputs, targets, batch_size=self.batch_size, shuffle=True, seed=self.seed, transform=self._as_floats(inputs)
        )

    def val_dataloader(self) -> Iterable[Batch]:
        """All validation examples in order, in large batches; empty if there are none."""
        val = self.splits.val
        if val is None:
            return iter(())  # Lightning warns at every fit about [], whose length is zero
        if not isinstance(val, TensorDataset):
            return DataLoader(val, self.batch_size, collate_fn=self._collate)
        inputs, targets = val.tensors
        return Batches(inputs, targets, batch_size=at_once(inputs), shuffle=False, transform=self._as_floats(inputs))

    def probe_batches(self, n: int = 2_048) -> list[Batch]:
        """At most ``n`` training examples, in large batches: the same for every run, batch size and seed.

        Raises ValueError for n below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        train = self.splits.train
        chosen = torch.randperm(_length(train), generator=torch.Generator().manual_seed(PROBE_SEED))[:n]
        if not isinstance(train, TensorDataset):
            # By batch_size: a data set too large for memory has examples too large for many at once.
            parts = (chosen[start : start + self.batch_size].tolist() for start in range(0, len(chosen), self.batch_size))
            return [self._collate([train[row] for row in part]) for part in parts]
        inputs, targets = (tensor.index_select(0, chosen) for tensor in train.tensors)
        return list(Batches(inputs, targets, batch_size=at_once(inputs), shuffle=False, transform=self._as_floats(inputs)))

    def _collate(self, examples: Sequence[Any]) -> Batch:
        inputs, targets = default_collate(list(examples))
        transform = self._as_floats(inputs)
        return (transform(inputs) if transform else inputs), targets

    def _as_floats(self, inputs: Tensor) -> Callable[[Tensor], Tensor] | None:
        if inputs.dtype != torch.uint8:
            return None
        channels = (-1, *[1] * (inputs.ndim - 2))
        mean, std = torch.tensor(self.mean).view(channels), torch.tensor(self.std).view(channels)
        scale, shift = 1 / (255 * std), -mean / std
        return lambda pixels: pixels.float().mul_(scale).add_(shift)


def at_once(inputs: Tensor) -> int:
    """How many examples to evaluate at once, as floats; inputs: shape (n_examples, ...), floats or bytes.

    >>> at_once(torch.zeros(60_000, 1, 28, 28, dtype=torch.uint8)), at_once(torch.zeros(1_347, 1, 8, 8))
    (1024, 12544)
    """
    return max(1, PROBE_BYTES // (4 * max(1, inputs[0].numel())))


def hold(dataset: Dataset[Any]) -> Dataset[Any]:
    """The data set as tensors in memory, or itself, with a warning, when they would not fit; a ``TensorDataset`` is as it was.

    What it needs is estimated as the size of its first example times their number.

    Raises ValueError when there is no example, or one is not a pair of a tensor and a label, or not of the first's shape.
    """
    if isinstance(dataset, TensorDataset):
        return dataset
    n_examples = _length(dataset)
    if n_examples < 1:
        raise ValueError(f"a data set must hold at least 1 example, got {n_examples}")
    first = _example(dataset, 0)
    needed = n_examples * sum(part.nbytes for part in first)
    room = int(MEMORY_SHARE * psutil.virtual_memory().available)
    if needed > room:
        _warn_too_large(type(dataset).__name__, needed, room)
        return dataset
    columns = [part.new_empty((n_examples, *part.shape)) for part in first]
    for row in range(n_examples):
        for column, part in zip(columns, _example(dataset, row), strict=True):
            if part.shape != column.shape[1:]:
                shape = tuple(column.shape[1:])
                raise ValueError(f"examples must have the shape of the first, {shape}, got {tuple(part.shape)} at {row}")
            column[row] = part
    return TensorDataset(*columns)


_warned: set[tuple[str, int]] = set()


def _warn_too_large(name: str, needed: int, room: int) -> None:
    if (name, needed) not in _warned:  # once a data set, not once a run
        _warned.add((name, needed))
        logger.warning(
            "%s needs %.3g GB and %.3g GB of memory are free for it: it is read example by example, which is slower",
            name,
            needed / 1e9,
            room / 1e9,
        )


def _example(dataset: Dataset[Any], row: int) -> Sequence[Tensor]:
    example = dataset[row]
    if not isinstance(example, Sequence) or len(example) != 2 or not isinstance(example[0], Tensor):
        parts = ", ".join(type(part).__name__ for part in example) if isinstance(example, Sequence) else type(example).__name__
        raise ValueError(
            f"examples must be pairs of a tensor and a label, got ({parts}):"
            " give the data set a transform such as torchvision.transforms.PILToTensor()"
        )
    inputs, label = example
    return inputs, torch.as_tensor(label)


def _length(dataset: Dataset[Any]) -> int:
    return len(dataset)  # type: ignore[arg-type]  # map-style data sets have one, their base class does not say so
