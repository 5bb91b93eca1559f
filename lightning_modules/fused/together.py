"""Batches for the seeds of one fit side by side, each in the order it has in a fit of its own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class Together:
    """Batches of several loaders side by side, by seed; each draws its order from random numbers of its own.

    So the order of a seed is the one it has in a fit of its own, where nothing else draws.

    loaders: by seed, each with a length.
    """

    def __init__(self, loaders: Mapping[int, Any]) -> None:
        self.loaders = loaders
        self._states = {seed: torch.Generator().manual_seed(seed).get_state() for seed in loaders}

    def __len__(self) -> int:
        return min(len(loader) for loader in self.loaders.values())

    def __iter__(self) -> Iterator[dict[int, Any]]:
        # Lightning calls iter once more than it goes through a loader of its own kind: nothing is drawn before the first batch.
        iterators = {seed: self.drawing(seed, iter, loader) for seed, loader in self.loaders.items()}
        while True:
            found = {seed: self.drawing(seed, next, iterator, None) for seed, iterator in iterators.items()}
            if any(batch is None for batch in found.values()):
                return
            yield found

    def alongside(self, loader: Any) -> Any:
        """The same loader, which draws from every seed's random numbers when it is gone through."""
        return _Alongside(loader, self)

    def draw(self, function: Callable[[], Tensor]) -> Tensor:
        """What a function draws from each seed's random numbers, shape (n_seeds, ...), in the order of the loaders."""
        return torch.stack([self.drawing(seed, function) for seed in self.loaders])

    def drawing(self, seed: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives when it draws from a seed's random numbers."""
        before = torch.get_rng_state()
        torch.set_rng_state(self._states[seed])
        try:
            return function(*arguments)
        finally:
            self._states[seed] = torch.get_rng_state()
            torch.set_rng_state(before)


class _Alongside:
    def __init__(self, loader: Any, together: Together) -> None:
        self.loader, self.together = loader, together

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        yield from [self.together.drawing(seed, iter, self.loader) for seed in self.together.loaders][0]
