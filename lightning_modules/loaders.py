"""Loaders of any kind: another batch size, how many examples a batch holds, and a fixed sample of training examples."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from types import NoneType
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

PROBE_SIZE = 2_048  # examples, at most
PROBE_SEED = 0  # of the probe set: which examples, and the random numbers of a measurement; never of a run
PROBE_BYTES = 1_024 * 28 * 28 * 4  # inputs evaluated at once: with more a ConvNet's activations are too large to be quick


def n_examples(batch: Any) -> int:
    """Examples in a batch: the length of the first tensor in it that has one, in tuples, mappings and dataclasses at any depth.

    Without a tensor, such as for a list of sentences, the length of the first list; 1 for anything else.

    >>> n_examples({"tokens": [torch.zeros(4, 7), torch.zeros(4)], "lengths": torch.ones(4)})
    4
    >>> n_examples((["three", "short", "sentences"], [0, 1, 0]))
    3
    """
    tensor = next(tensors(batch), None)
    if tensor is not None:
        return len(tensor)
    while isinstance(batch, Mapping) or (isinstance(batch, tuple) and batch and isinstance(batch[0], (list, tuple))):
        batch = next(iter(batch.values()), None) if isinstance(batch, Mapping) else batch[0]
    return len(batch) if isinstance(batch, Sequence) and not isinstance(batch, str) else 1


def has_size(batch: Any, batch_size: int) -> bool:
    """Whether a batch is one of ``batch_size`` examples: some tensor in it has an axis of that length (sequences may come
    time first), some list in it that length (images of several sizes do not fit one tensor), or ``n_examples`` says so.

    A list or tuple that holds tensors beside whatever else is no such list when it is the batch itself: inputs and labels.
    """
    if n_examples(batch) == batch_size or any(batch_size in tensor.shape for tensor in tensors(batch)):
        return True
    outermost = isinstance(batch, (list, tuple)) and any(isinstance(part, Tensor) for part in batch)
    return any(len(part) == batch_size for part in _lists(batch) if not (outermost and part is batch))


def at_batch_size(loaders: Any, batch_size: int, *, seed: int) -> Any:
    """The same loaders giving batches of ``batch_size``, in an order that belongs to ``seed``.

    A ``DataLoader`` of another batch size, or with a generator of its own or its sampler's, is made again with the same data
    set, sampler, collate function and workers; others, and what is no ``DataLoader``, stay as they are. ``loaders`` may be a
    collection.
    """
    if hasattr(loaders, "iterables") and hasattr(loaders, "flattened"):  # Lightning's CombinedLoader
        loaders = copy.copy(loaders)
        loaders.flattened = [at_batch_size(loader, batch_size, seed=seed) for loader in loaders.flattened]
        return loaders
    return apply_to_collection(loaders, DataLoader, lambda loader: _made_again(loader, batch_size, seed))


def _made_again(loader: DataLoader[Any], batch_size: int, seed: int) -> DataLoader[Any]:
    batches: Any = loader.batch_sampler
    plain = type(batches) is BatchSampler
    size, sampler = (batches.batch_size, batches.sampler) if plain else (None, loader.sampler)
    draws_its_own = any(isinstance(getattr(each, "generator", None), torch.Generator) for each in (loader, batches, sampler))
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
    """A copy of a sampler that draws from ``generator`` where it draws from one at all."""
    sampler = copy.copy(sampler)
    if isinstance(getattr(sampler, "generator", ""), (torch.Generator, NoneType)):
        sampler.generator = generator
    return sampler


def draw_probe(loader: Any, batches: Iterable[Any], *, at_once: int, size: int = PROBE_SIZE) -> list[Any]:
    """At most ``size`` training examples as batches of the loader's own kind, the same at every call.

    They are chosen at random where the loader's data set can be indexed, and collated into batches of at most ``at_once``;
    of a stream, and where the loader chooses the batches, they are the first of ``batches``. Random transforms are drawn
    once, here.
    """
    if isinstance(loader, DataLoader) and loader.batch_size and not isinstance(loader.dataset, IterableDataset):
        return _indexed(loader, at_once, size)
    chosen: list[Any] = []
    found = 0
    for batch in batches:
        chosen.append(batch)
        found += n_examples(batch)
        if found >= size:
            break
    return chosen


def _indexed(loader: DataLoader[Any], at_once: int, size: int) -> list[Any]:
    dataset: Any = loader.dataset
    sampler: Any = loader.sampler
    # What the sampler serves: a SubsetRandomSampler keeps the validation examples of the same data set apart.
    rows = sampler.indices if hasattr(sampler, "indices") else range(len(dataset))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(PROBE_SEED))[:size].tolist()
    chosen = [int(rows[index]) for index in order]
    first = loader.collate_fn([dataset[row] for row in chosen[:1]])
    at_once = max(1, min(at_once, PROBE_BYTES // max(1, sum(tensor.nbytes for tensor in tensors(first)))))
    parts = [chosen[start : start + at_once] for start in range(0, len(chosen), at_once)]
    return [loader.collate_fn([dataset[row] for row in part]) for part in parts]


def tensors(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch that have a length, in order."""
    if isinstance(batch, Tensor):
        if batch.ndim:
            yield batch
        return
    for part in _parts(batch):
        yield from tensors(part)


def _lists(batch: Any) -> Iterator[Sequence[Any]]:
    """The lists and tuples of a batch at any depth, itself included."""
    if isinstance(batch, (list, tuple)):
        yield batch
    for part in _parts(batch):
        yield from _lists(part)


def _parts(batch: Any) -> Iterable[Any]:
    if is_dataclass(batch) and not isinstance(batch, type):
        batch = vars(batch)
    return batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else ()
