"""Loaders of any kind: another batch size, how many examples a batch holds, and a fixed sample of training examples."""

import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from fractions import Fraction
from types import NoneType
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

PROBE_SIZE = 2_048  # examples, at most
PROBE_SEED = 0  # of the probe set: which examples, and the random numbers of a measurement; never of a run
DEEP = 8  # levels of a batch that are looked into: its objects may refer to each other
PROBE_BYTES = 1_024 * 28 * 28 * 4  # inputs evaluated at once: with more a ConvNet's activations are too large to be quick


def n_examples(batch: Any) -> int:
    """Examples in a batch: the length of the first tensor in it that has one, in tuples, mappings and objects at any depth.

    An object may say so itself in ``num_graphs`` or ``batch_size``, or by its length. Without a tensor, such as for a list of
    sentences, the length of the first list; 1 for anything else.

    >>> n_examples({"tokens": [torch.zeros(4, 7), torch.zeros(4)], "lengths": torch.ones(4)})
    4
    >>> n_examples((["three", "short", "sentences"], [0, 1, 0]))
    3
    """
    if isinstance(batch, (tuple, list)) and len(batch) > 1 and _are_columns(batch):
        return len(batch[0])
    first = batch
    while isinstance(first, (tuple, list)) and first and not isinstance(first, PackedSequence):
        first = first[0]
    if isinstance(first, Tensor) and first.ndim:  # as in most batches: this is asked at every step
        return len(first)
    told = _told(batch)
    if told is not None:
        return told
    tensor = next(tensors(batch), None)
    if tensor is not None:
        return len(tensor)
    while isinstance(batch, Mapping) or (isinstance(batch, tuple) and batch and isinstance(batch[0], (list, tuple))):
        batch = next(iter(batch.values()), None) if isinstance(batch, Mapping) else batch[0]
    return len(batch) if isinstance(batch, Sequence) and not isinstance(batch, str) else 1


def _are_columns(batch: Sequence[Any]) -> bool:
    """Whether a batch is lists of one entry an example, such as images of several sizes and a mapping of boxes for each."""
    if not isinstance(batch[0], (list, tuple)) or not batch[0]:
        return False
    alike = all(isinstance(part, (list, tuple)) and len(part) == len(batch[0]) for part in batch)
    return alike and isinstance(batch[0][0], Tensor) and any(not isinstance(part[0], Tensor) for part in batch)


def _told(batch: Any) -> int | None:
    """How many examples an object says it holds, or the first of a tuple or mapping does."""
    if isinstance(batch, PackedSequence):
        return int(batch.batch_sizes[0])
    if isinstance(batch, (Tensor, str, type)) or batch is None:
        return None
    for name in ("num_graphs", "batch_size"):  # of PyTorch Geometric, DGL and TensorDict
        said = getattr(batch, name, None)
        said = said[0] if isinstance(said, (tuple, list, Tensor)) and len(said) == 1 else said
        if isinstance(said, int) and not isinstance(said, bool) and said > 0:
            return said
    if isinstance(batch, (list, tuple, Mapping)):
        parts = list(_parts(batch))
        examples = len(parts) > 1 and all(type(part) is type(parts[0]) for part in parts)
        return None if examples or not parts or hasattr(type(parts[0]), "__len__") else _told(parts[0])
    return len(batch) if hasattr(type(batch), "__len__") and hasattr(batch, "__dict__") else None


def has_size(batch: Any, batch_size: int) -> bool:
    """Whether a batch is one of ``batch_size`` examples: some tensor in it has an axis of that length (sequences may come
    time first), some list in it that length (images of several sizes do not fit one tensor), or ``n_examples`` says so.

    A list or tuple that holds tensors beside whatever else is no such list when it is the batch itself: inputs and labels.
    """
    if n_examples(batch) == batch_size or any(batch_size in tensor.shape for tensor in tensors(batch)):
        return True
    outermost = isinstance(batch, (list, tuple)) and any(isinstance(part, Tensor) for part in batch)
    return any(len(part) == batch_size for part in _lists(batch) if not (outermost and part is batch))


def at_batch_size(loaders: Any, batch_size: int | None, *, seed: int) -> Any:
    """The same loaders giving batches of ``batch_size``, in an order that belongs to ``seed``.

    A ``DataLoader`` of another batch size, or with a generator of its own or its sampler's, is made again with the same data
    set, sampler, collate function and workers; others, and what is no ``DataLoader``, stay as they are. ``loaders`` may be a
    collection: then ``batch_size`` is that of the first, and the others keep their proportion to it. None keeps all sizes.
    """
    factor: Fraction | None = None if batch_size is None else Fraction(batch_size, _first_size(loaders) or batch_size)

    def again(loader: DataLoader[Any]) -> DataLoader[Any]:
        size = own_size(loader)
        return _made_again(loader, None if factor is None or size is None else max(1, round(size * factor)), seed)

    if hasattr(loaders, "iterables") and hasattr(loaders, "flattened"):  # Lightning's CombinedLoader
        loaders = copy.copy(loaders)
        loaders.flattened = [again(loader) if isinstance(loader, DataLoader) else loader for loader in loaders.flattened]
        return loaders
    return apply_to_collection(loaders, DataLoader, again)


def flat_loaders(loaders: Any) -> list[Any]:
    """The loaders of a collection, in order; one alone too."""
    if hasattr(loaders, "iterables") and hasattr(loaders, "flattened"):
        return list(loaders.flattened)
    if isinstance(loaders, Mapping):
        return [each for part in loaders.values() for each in flat_loaders(part)]
    return [each for part in loaders for each in flat_loaders(part)] if isinstance(loaders, (list, tuple)) else [loaders]


def own_size(loader: Any) -> int | None:
    """Examples a batch that a ``DataLoader`` asks its data set for, None where its sampler, data set or class decides."""
    if not isinstance(loader, DataLoader) or type(loader).__iter__ is not DataLoader.__iter__:
        return None
    return loader.batch_sampler.batch_size if type(loader.batch_sampler) is BatchSampler else None


def _first_size(loaders: Any) -> int | None:
    return next((size for loader in flat_loaders(loaders) if (size := own_size(loader)) is not None), None)


def _made_again(loader: DataLoader[Any], batch_size: int | None, seed: int) -> DataLoader[Any]:
    if type(loader).__iter__ is not DataLoader.__iter__:  # goes through its data in a way of its own
        return loader
    batches: Any = loader.batch_sampler
    plain = type(batches) is BatchSampler
    size, sampler = (batches.batch_size, batches.sampler) if plain else (None, loader.sampler)
    batch_size = size if batch_size is None else batch_size
    draws_its_own = any(isinstance(getattr(each, "generator", None), torch.Generator) for each in (loader, batches, sampler))
    draws_its_own |= any(_others_generators(each) for each in (batches, sampler))
    if not draws_its_own and size in (None, batch_size):
        return loader
    generator = torch.Generator().manual_seed(seed)
    names = "num_workers collate_fn pin_memory timeout worker_init_fn multiprocessing_context prefetch_factor in_order"
    options = {name: getattr(loader, name) for name in (*names.split(), "persistent_workers")}
    options |= {"generator": generator}
    if not plain and batches is not None:  # batches chosen by a sampler of the user's: only their order is ours
        return DataLoader(loader.dataset, batch_sampler=_seeded(batches, generator), **options)
    if not isinstance(loader.dataset, IterableDataset):
        options["sampler"] = _seeded(sampler, generator)
    if plain:
        return DataLoader(loader.dataset, batch_size, drop_last=batches.drop_last, **options)
    return DataLoader(loader.dataset, None, **options)  # the data set gives whole batches


def _seeded(sampler: Any, generator: torch.Generator) -> Any:
    """A copy of a sampler that draws from ``generator`` where it draws from one at all, and belongs to its seed in any case."""
    sampler = copy.copy(sampler)
    if isinstance(getattr(sampler, "generator", ""), (torch.Generator, NoneType)):
        sampler.generator = generator
    for name, of in _others_generators(sampler):
        seed = generator.initial_seed()
        made = np.random.default_rng(seed) if isinstance(of, np.random.Generator) else type(of)(seed)
        setattr(sampler, name, made)
    return sampler


def _others_generators(sampler: Any) -> list[tuple[str, Any]]:
    """The random numbers of NumPy and Python that a sampler has in its attributes."""
    kinds = (np.random.Generator, np.random.RandomState, random.Random)
    return [(name, value) for name, value in getattr(sampler, "__dict__", {}).items() if isinstance(value, kinds)]


def split(batch: Any, size: int) -> list[Any] | None:
    """The examples of a batch in batches of at most ``size``, in a random order that is the same at every call.

    None where they cannot be told apart: every tensor must hold one entry an example on its first axis, or be one number.

    >>> [part["x"].shape for part in split({"x": torch.zeros(5, 3), "y": [1, 2, 3, 4, 5], "name": "all"}, 2)]
    [torch.Size([2, 3]), torch.Size([2, 3]), torch.Size([1, 3])]
    """
    count = n_examples(batch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(PROBE_SEED))
    try:
        return [_rows(batch, order[start : start + size], count) for start in range(0, count, size)]
    except Exception:  # ours, and whatever a class of the user's says to being made of its parts
        return None


class _NotApart(Exception):
    """Examples of a batch cannot be told apart."""


def _rows(part: Any, rows: Tensor, count: int) -> Any:
    if isinstance(part, Tensor) and part.ndim:
        if len(part) != count:
            raise _NotApart
        return part[rows.to(part.device)]
    if isinstance(part, (list, tuple)) and len(part) == count and next(tensors(part), None) is None:
        return type(part)(part[row] for row in rows.tolist())
    if isinstance(part, Mapping):
        made: Any = copy.copy(part)
        for name, each in part.items():
            made[name] = _rows(each, rows, count)
        return made
    if isinstance(part, (list, tuple)):
        parts = [_rows(each, rows, count) for each in part]
        return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{each.name: _rows(getattr(part, each.name), rows, count) for each in fields(part)})
    if isinstance(part, (str, int, float, bytes, Tensor, NoneType)):
        return part
    raise _NotApart


def tensors(batch: Any, depth: int = DEEP) -> Iterator[Tensor]:
    """The tensors of a batch that have a length, in order."""
    if isinstance(batch, Tensor):
        if batch.ndim:
            yield batch
        return
    for part in _parts(batch) if depth else ():
        yield from tensors(part, depth - 1)


def _lists(batch: Any, depth: int = DEEP) -> Iterator[Sequence[Any]]:
    """The lists and tuples of a batch at any depth, itself included."""
    if isinstance(batch, (list, tuple)):
        yield batch
    for part in _parts(batch) if depth else ():
        yield from _lists(part, depth - 1)


def _parts(batch: Any) -> Iterable[Any]:
    """What a collection holds, or an object in its attributes."""
    if isinstance(batch, Mapping):
        return batch.values()
    if isinstance(batch, (list, tuple)):
        return batch
    if isinstance(batch, (type, Tensor)) or callable(batch):
        return ()
    return getattr(batch, "__dict__", {}).values()
