"""Loaders of any kind at another batch size, and the fixed sample of training examples the height is measured on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_modules.loaders import PROBE_BYTES, PROBE_SIZE, at_batch_size, draw_probe, has_size, n_examples

N = 40
NUMBERS = TensorDataset(torch.arange(N))


def collate(examples: list[Any]) -> Tensor:
    """A collate function of the user's."""
    return torch.stack([number for (number,) in examples])


def start(worker: int) -> None:
    """What a worker does first."""


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Pairs(Sampler[list[int]]):
    """Batches chosen by the user: neighbours, in an order drawn from a generator of its own or from nobody's."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def __iter__(self) -> Iterator[list[int]]:
        for first in torch.randperm(N // 2, generator=self.generator).tolist():
            yield [2 * first, 2 * first + 1]


class Stream(IterableDataset[Any]):
    """Numbers in order, one by one or in batches of its own."""

    def __init__(self, own: int | None = None) -> None:
        self.own = own

    def __iter__(self) -> Iterator[Any]:
        yield from torch.arange(N).split(self.own) if self.own else ((number,) for number in torch.arange(N))


def batches(loader: Any, seed: int = 0) -> list[list[int]]:
    """What an epoch gives when all numbers that are drawn belong to ``seed``."""
    torch.manual_seed(seed)
    return [(batch if isinstance(batch, Tensor) else batch[0]).tolist() for batch in loader]


def order(loader: Any, seed: int = 0) -> list[int]:
    return sum(batches(loader, seed), [])


SAMPLED: dict[str, Callable[[], DataLoader[Any]]] = {
    "shuffled": lambda: DataLoader(NUMBERS, 8, shuffle=True),
    "shuffled by its own generator": lambda: DataLoader(NUMBERS, 8, shuffle=True, generator=generator()),
    "random sampler": lambda: DataLoader(NUMBERS, 8, sampler=RandomSampler(NUMBERS, replacement=True, num_samples=30)),
    "random sampler with a generator": lambda: DataLoader(NUMBERS, 8, sampler=RandomSampler(NUMBERS, generator=generator())),
    "subset": lambda: DataLoader(NUMBERS, 8, sampler=SubsetRandomSampler(range(10, 31))),
    "subset with a generator": lambda: DataLoader(NUMBERS, 8, sampler=SubsetRandomSampler(range(10, 31), generator())),
    "weighted": lambda: DataLoader(NUMBERS, 8, sampler=WeightedRandomSampler([1.0] * 9 + [0.0] * 31, 25)),
    "weighted with a generator": lambda: DataLoader(
        NUMBERS, 8, sampler=WeightedRandomSampler([1.0] * 9 + [0.0] * 31, 25, generator=generator())
    ),
    "batch sampler of torch": lambda: DataLoader(NUMBERS, batch_sampler=BatchSampler(RandomSampler(NUMBERS), 8, True)),
    "batch sampler of torch with a generator": lambda: DataLoader(
        NUMBERS, batch_sampler=BatchSampler(RandomSampler(NUMBERS, generator=generator()), 8, True)
    ),
}
sampled = pytest.mark.parametrize("kind", SAMPLED)


@sampled
def test_another_batch_size_keeps_what_is_drawn_and_how_much(kind: str) -> None:
    loader = SAMPLED[kind]()
    made = batches(at_batch_size(loader, 6, seed=1))
    drop_last = "batch sampler" in kind
    n = len(loader.batch_sampler.sampler)  # type: ignore[union-attr, arg-type]
    n -= n % 6 if drop_last else 0
    assert [len(batch) for batch in made] == [6] * (n // 6) + [n % 6] * (n % 6 > 0)
    numbers = sum(made, [])
    possible = set(range(10, 31)) if kind.startswith("subset") else set(range(9 if kind.startswith("weighted") else N))
    assert set(numbers) <= possible
    if not kind.startswith("weighted") and kind != "random sampler":  # these draw with replacement
        assert len(set(numbers)) == len(numbers)
    assert numbers != sorted(numbers)


@sampled
@pytest.mark.parametrize("batch_size", [6, 8])
def test_one_seed_is_one_order_and_another_seed_another(kind: str, batch_size: int) -> None:
    loader = SAMPLED[kind]()
    list(loader)  # a loader that was used before is no different
    first, again, other = (order(at_batch_size(loader, batch_size, seed=seed), seed=seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("kind", [kind for kind in SAMPLED if "generator" not in kind])
def test_a_loader_that_already_fits_is_returned_as_is(kind: str) -> None:
    loader = SAMPLED[kind]()
    assert at_batch_size(loader, 8, seed=1) is loader
    assert at_batch_size(loader, 6, seed=1) is not loader


@sampled
def test_the_loader_that_was_given_is_not_changed(kind: str) -> None:
    loader, untouched = SAMPLED[kind](), SAMPLED[kind]()
    list(at_batch_size(loader, 6, seed=1))
    list(at_batch_size(loader, 8, seed=1))
    assert batches(loader, seed=3) == batches(untouched, seed=3)


def test_a_loader_in_order_stays_in_order() -> None:
    assert batches(at_batch_size(DataLoader(NUMBERS, 8), 16, seed=1)) == [[*range(16)], [*range(16, 32)], [*range(32, 40)]]
    assert batches(at_batch_size(DataLoader(NUMBERS, 8, drop_last=True), 16, seed=1)) == [[*range(16)], [*range(16, 32)]]


def test_data_set_collate_function_and_workers_are_kept() -> None:
    options: dict[str, Any] = dict(
        collate_fn=collate, num_workers=1, timeout=30, worker_init_fn=start, prefetch_factor=3, persistent_workers=True
    )
    options |= dict(drop_last=True, multiprocessing_context="spawn", in_order=False)
    loader = DataLoader(NUMBERS, 8, shuffle=True, **options)
    made = at_batch_size(loader, 6, seed=1)
    assert made.batch_size == 6 and made.dataset is NUMBERS
    assert isinstance(made.sampler, RandomSampler) and made.sampler is not loader.sampler
    for name in options:
        assert getattr(made, name) == getattr(loader, name), name


@pytest.mark.parametrize("own", [None, generator()], ids=["no generator", "generator"])
def test_batches_chosen_by_a_sampler_of_the_users_keep_their_size(own: torch.Generator | None) -> None:
    loader = DataLoader(NUMBERS, batch_sampler=Pairs(own), collate_fn=collate)
    made = at_batch_size(loader, 8, seed=1)
    assert (made is loader) == (own is None)
    pairs = batches(made, seed=1)
    assert sorted(pairs) == [[first, first + 1] for first in range(0, N, 2)]
    again, other = (batches(at_batch_size(loader, 8, seed=seed), seed=seed) for seed in (1, 2))
    assert pairs == again != other


@pytest.mark.parametrize("own", [None, generator()], ids=["no generator", "generator"])
def test_streams_come_at_the_batch_size_unless_they_make_their_own_batches(own: torch.Generator | None) -> None:
    loader = DataLoader(Stream(), 8, drop_last=True, generator=own)
    assert batches(at_batch_size(loader, 16, seed=1)) == [[*range(16)], [*range(16, 32)]]
    assert (at_batch_size(loader, 8, seed=1) is loader) == (own is None)
    whole = DataLoader(Stream(own=20), batch_size=None, generator=own)
    assert batches(at_batch_size(whole, 16, seed=1)) == [[*range(20)], [*range(20, 40)]]


@pytest.mark.parametrize("own", [None, generator()], ids=["no generator", "generator"])
def test_a_data_set_asked_for_whole_batches_is_still_asked_for_them(own: torch.Generator | None) -> None:
    indices = BatchSampler(SequentialSampler(NUMBERS), 10, drop_last=False)
    loader = DataLoader(NUMBERS, batch_size=None, sampler=indices, generator=own)
    assert batches(at_batch_size(loader, 16, seed=1)) == [[*range(first, first + 10)] for first in range(0, N, 10)]


def test_a_sampler_with_a_generator_that_is_not_torchs_keeps_it() -> None:
    class Choosing(Sampler[int]):
        def __init__(self) -> None:
            self.generator = np.random.default_rng(0)

        def __iter__(self) -> Iterator[int]:
            return iter(self.generator.permutation(N).tolist())

        def __len__(self) -> int:
            return N

    assert sorted(order(at_batch_size(DataLoader(NUMBERS, 8, sampler=Choosing()), 10, seed=1))) == [*range(N)]


def test_every_loader_of_a_collection_comes_at_the_batch_size() -> None:
    one, two = DataLoader(NUMBERS, 8, shuffle=True), DataLoader(NUMBERS, 10)
    given = {"pair": [one, (two, "name")], "list": [[1, 2], [3]], "none": None}
    made = at_batch_size(given, 10, seed=1)
    assert made["pair"][0].batch_size == 10 and made["pair"][1] == (two, "name")
    assert made["list"] == [[1, 2], [3]] and made["none"] is None
    assert given["pair"][0] is one  # type: ignore[index]

    combined = CombinedLoader({"one": one, "two": two}, mode="max_size_cycle")
    made = at_batch_size(combined, 20, seed=1)
    assert isinstance(made, CombinedLoader) and made is not combined
    assert [{name: len(part[0]) for name, part in batch.items()} for batch, *_ in made] == [{"one": 20, "two": 20}] * 2
    assert [{name: len(part[0]) for name, part in batch.items()} for batch, *_ in combined] == [
        {"one": 8, "two": 10},
        {"one": 8, "two": 10},
        {"one": 8, "two": 10},
        {"one": 8, "two": 10},
        {"one": 8, "two": 10},
    ]


@dataclass
class Sentences:
    """A batch that is neither tuple nor mapping."""

    name: str
    tokens: Tensor


X, Y, SCALAR = torch.zeros(4, 3), torch.zeros(4), torch.tensor(1.0)
SIZES: dict[str, tuple[Any, int]] = {
    "tensor": (X, 4),
    "tuple": ((X, Y), 4),
    "dict": ({"id": SCALAR, "x": X}, 4),
    "nested": ([{"meta": ("name", SCALAR), "x": [X]}, Y], 4),
    "dataclass": (Sentences("name", X), 4),
    "list of sentences": (["a", "b", "c"], 3),
    "dict of lists": ({"text": ["a", "b", "c"], "n": [1, 2, 3]}, 3),
    "tuple of lists": ((["a", "b", "c"], [1, 2, 3]), 3),
    "list of pairs": ([("a", 1), ("b", 2), ("c", 3)], 3),
    "list of scalars": ([SCALAR, SCALAR], 2),
    "sentence": ("abc", 1),
    "scalar": (SCALAR, 1),
    "nothing": (None, 1),
    "empty": ({}, 1),
}


@pytest.mark.parametrize("kind", SIZES)
def test_examples_are_counted_in_batches_of_any_kind(kind: str) -> None:
    batch, n = SIZES[kind]
    assert n_examples(batch) == n
    assert has_size(batch, n)
    assert not has_size(batch, 57)


def test_a_batch_has_a_size_along_any_axis_or_as_a_list() -> None:
    time_first = {"tokens": torch.zeros(11, 6, 3), "length": torch.zeros(())}
    assert has_size(time_first, 6) and not has_size(time_first, 7)
    images = [torch.zeros(3, 5 + size, 8) for size in range(6)]
    boxes = [{"boxes": torch.zeros(size, 4)} for size in range(6)]
    assert has_size((images, boxes), 6) and has_size([*zip(images, boxes, strict=True)], 6)
    assert not has_size((images, boxes), 57)
    assert not has_size([torch.zeros(32, 5), torch.zeros(32)], 2)  # inputs and labels are two, the examples 32


class Images(Dataset[tuple[Tensor, int]]):
    """Examples of a size in bytes; remembers which were asked for."""

    def __init__(self, n: int, size: int = 4) -> None:
        self.n, self.size = n, size
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.asked.append(index)
        return torch.full((self.size // 4,), float(index)), index


def labels(probe: list[Any]) -> list[int]:
    return torch.cat([batch[1] for batch in probe]).tolist()


def unread() -> Iterator[Any]:
    raise AssertionError("batches are not read where the data set can be indexed")
    yield


def test_the_probe_is_a_random_sample_the_same_at_every_call_and_draws_nothing_from_a_run() -> None:
    loader = DataLoader(Images(5_000), 32, shuffle=True)
    torch.manual_seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    first = labels(draw_probe(loader, unread(), at_once=100))
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    torch.manual_seed(5)
    assert labels(draw_probe(DataLoader(Images(5_000), 64), unread(), at_once=300)) == first
    assert len(set(first)) == len(first) == PROBE_SIZE == 2_048
    assert abs(np.mean(first) - 2_500) < 150 and first != sorted(first)  # five standard errors


def test_a_probe_takes_all_of_a_small_data_set_in_batches_of_at_most_at_once() -> None:
    probe = draw_probe(DataLoader(Images(50), 8), unread(), at_once=16)
    assert [n_examples(batch) for batch in probe] == [16, 16, 16, 2]
    assert sorted(labels(probe)) == [*range(50)]
    for inputs, labelled in probe:
        assert inputs[:, 0].tolist() == labelled.tolist()


def test_a_probe_is_collated_as_the_loader_does() -> None:
    probe = draw_probe(DataLoader(NUMBERS, 8, collate_fn=collate), unread(), at_once=30)
    assert [tuple(batch.shape) for batch in probe] == [(30,), (10,)]


@pytest.mark.parametrize(
    "indices", [range(100, 400), torch.arange(100, 400), np.arange(100, 400)], ids=["range", "torch", "numpy"]
)
def test_a_probe_takes_only_what_a_subset_sampler_serves(indices: Any) -> None:
    loader = DataLoader(Images(5_000), 32, sampler=SubsetRandomSampler(indices))
    assert sorted(labels(draw_probe(loader, unread(), at_once=64))) == [*range(100, 400)]


@pytest.mark.parametrize(("size", "at_once"), [(32_000, 100), (1_600_000, 2), (40_000_000, 1)])
def test_large_examples_are_evaluated_fewer_at_once(size: int, at_once: int) -> None:
    data = Images(5, size) if size > 1_000_000 else Images(150, size)
    probe = draw_probe(DataLoader(data, 32), unread(), at_once=1_000)
    n = [n_examples(batch) for batch in probe]
    assert max(n) in (at_once, at_once - 1) and sum(n) == len(data)  # the label takes 8 bytes
    assert at_once == 1 or max(n) * size <= PROBE_BYTES


def test_a_probe_of_a_stream_and_of_chosen_batches_are_the_first_batches() -> None:
    seen = []

    def counted() -> Iterator[Tensor]:
        for index in range(100):
            seen.append(index)
            yield torch.full((30,), index)

    for loader in (DataLoader(Stream(), 8), DataLoader(NUMBERS, batch_sampler=Pairs()), [DataLoader(NUMBERS, 8)], "no loader"):
        seen.clear()
        probe = draw_probe(loader, counted(), at_once=5, size=100)
        assert [int(batch[0]) for batch in probe] == seen == [0, 1, 2, 3]  # 120 examples: as few batches as reach 100
    assert len(draw_probe("no loader", iter([X, X]), at_once=5)) == 2
