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
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_modules.loaders import at_batch_size, has_size, n_examples

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


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState, random.Random], ids=["new", "old", "python"])
def test_a_sampler_that_draws_from_other_random_numbers_draws_in_an_order_of_the_seed_and_stays_as_it_was(kind: Any) -> None:
    class Choosing(Sampler[int]):
        def __init__(self) -> None:
            self.rng = kind(0)

        def __iter__(self) -> Iterator[int]:
            if isinstance(self.rng, random.Random):
                return iter(self.rng.sample(range(N), N))
            return iter(self.rng.permutation(N).tolist())

        def __len__(self) -> int:
            return N

    loader = DataLoader(NUMBERS, 8, sampler=Choosing())
    first, again, other = (order(at_batch_size(loader, 8, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other and sorted(first) == [*range(N)]
    assert order(loader) == order(DataLoader(NUMBERS, 8, sampler=Choosing()))


def test_the_first_loader_of_a_collection_comes_at_the_batch_size_and_the_others_in_proportion() -> None:
    one, two = DataLoader(NUMBERS, 8, shuffle=True), DataLoader(NUMBERS, 10)
    given = {"pair": [one, (two, "name")], "list": [[1, 2], [3]], "none": None}
    made = at_batch_size(given, 10, seed=1)
    assert made["pair"][0].batch_size == 10 and made["pair"][1][0].batch_size == 12  # 12.5
    assert made["list"] == [[1, 2], [3]] and made["none"] is None
    assert given["pair"][0] is one  # type: ignore[index]

    combined = CombinedLoader({"one": one, "two": two}, mode="max_size_cycle")
    made = at_batch_size(combined, 16, seed=1)
    assert isinstance(made, CombinedLoader) and made is not combined
    assert [{name: len(part[0]) for name, part in batch.items()} for batch, *_ in made][0] == {"one": 16, "two": 20}
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
