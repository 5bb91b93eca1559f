"""Loaders of any kind: another batch size, how many examples a batch holds, and a fixed sample of training examples."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import islice
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

PROBE_SIZE = 2_048  # examples, at most
PROBE_SEED = 0  # of the probe set: which examples, and the random numbers of a measurement; never of a run
PROBE_BYTES = 8_000_000  # inputs evaluated at once: 2,048 images of 28 x 28 floats


def n_examples(batch: Any) -> int:
    """Examples in a batch: the length of the first tensor in it that has one, in tuples, mappings and dataclasses at any depth.

    Without a tensor, such as for a list of sentences, the length of the first list; 1 for anything else.

    >>> n_examples({"tokens": [torch.zeros(4, 7), torch.zeros(4)], "lengths": torch.ones(4)})
    4
    >>> n_examples(["two", "sentences"])
    2
    """
    tensor = next(_tensors(batch), None)
    if tensor is not None:
        return len(tensor)
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()), None)
    return len(batch) if isinstance(batch, Sequence) and not isinstance(batch, str) else 1


def has_size(batch: Any, batch_size: int) -> bool:
    """Whether a batch is one of ``batch_size`` examples: some tensor in it has an axis of that length (sequences may come
    time first), or ``n_examples`` says so.
    """
    return n_examples(batch) == batch_size or any(batch_size in tensor.shape for tensor in _tensors(batch))


def at_batch_size(loaders: Any, batch_size: int, *, seed: int) -> Any:
    """The same loaders giving batches of ``batch_size``, in an order that belongs to ``seed``.

    A ``DataLoader`` of another batch size, or with a generator of its own, is made again with the same data set, sampler,
    collate function and workers; others, and what is no ``DataLoader``, stay as they are. ``loaders`` may be a collection.
    """
    if hasattr(loaders, "iterables") and hasattr(loaders, "flattened"):  # Lightning's CombinedLoader
        loaders = copy.copy(loaders)
        loaders.flattened = [at_batch_size(loader, batch_size, seed=seed) for loader in loaders.flattened]
        return loaders
    return apply_to_collection(loaders, DataLoader, lambda loader: _made_again(loader, batch_size, seed))


def _made_again(loader: DataLoader[Any], batch_size: int, seed: int) -> DataLoader[Any]:
    plain_batches = type(loader.batch_sampler) is BatchSampler
    if loader.generator is None and (loader.batch_size == batch_size or not (loader.batch_size or plain_batches)):
        return loader
    generator = torch.Generator().manual_seed(seed)
    names = "num_workers collate_fn pin_memory timeout worker_init_fn multiprocessing_context prefetch_factor"
    options = {name: getattr(loader, name) for name in (*names.split(), "persistent_workers")}
    options |= {"generator": generator}
    if isinstance(loader.dataset, IterableDataset):
        return DataLoader(loader.dataset, batch_size, drop_last=loader.drop_last, **options)
    batches: Any = loader.batch_sampler
    if loader.batch_size is None and not plain_batches:  # batches chosen by a sampler of the user's: only their order is ours
        return DataLoader(loader.dataset, batch_sampler=_seeded(batches, generator), **options)
    sampler, drop_last = (batches.sampler, batches.drop_last) if plain_batches else (loader.sampler, loader.drop_last)
    return DataLoader(loader.dataset, batch_size, sampler=_seeded(sampler, generator), drop_last=drop_last, **options)


def _seeded(sampler: Any, generator: torch.Generator) -> Any:
    """A copy of a sampler that draws from ``generator`` where it draws from one at all."""
    sampler = copy.copy(sampler)
    if hasattr(sampler, "generator"):
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
    examples = iter([int(rows[index]) for index in order])
    first = loader.collate_fn([dataset[row] for row in islice(examples, 1)])
    at_once = max(1, min(at_once, PROBE_BYTES // max(1, sum(tensor.nbytes for tensor in _tensors(first)))))
    examples = iter([int(rows[index]) for index in order])
    return [loader.collate_fn([dataset[row] for row in part]) for part in iter(lambda: list(islice(examples, at_once)), [])]


def _tensors(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch that have a length, in order."""
    if isinstance(batch, Tensor):
        if batch.ndim:
            yield batch
        return
    if is_dataclass(batch) and not isinstance(batch, type):
        batch = vars(batch)
    parts: Iterable[Any] = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else ()
    for part in parts:
        yield from _tensors(part)
