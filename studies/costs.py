"""What runs took so far, and how long those that are left will take."""

from collections import defaultdict, deque
from collections.abc import Sequence

JOBS = 20  # of a batch size that are remembered: runs that diverge cost less, so that one job tells little of another


class Costs:
    """Seconds that runs take, by their batch size."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=JOBS))
        self._n_jobs = 0

    def start_anew(self) -> None:
        """What comes next is trained by workers that are new."""
        self._n_jobs = 0

    def add(self, batch_size: int, seconds: float, *, n_members: int, n_workers: int) -> None:
        """A job of so many members has taken ``seconds`` for each. The first of a worker counts where it has several: much is
        done in it for all that follow.
        """
        self._n_jobs += 1
        if n_members > 1 or self._n_jobs > n_workers:
            self._seconds[batch_size].append(seconds)

    def left(self, batch_sizes: Sequence[int], *, n_workers: int) -> float | None:
        """Seconds until as many workers have trained a run at each of these; None while the cost of one is not known."""
        if not set(batch_sizes) <= self._seconds.keys():
            return None
        means = {size: sum(seconds) / len(seconds) for size, seconds in self._seconds.items()}
        return sum(means[size] for size in batch_sizes) / n_workers
