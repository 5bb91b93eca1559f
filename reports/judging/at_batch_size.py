"""What a study says of any batch size, tried or not: where the edges will lie there, what to use, how far outside that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from reports.errors import BadInput
from reports.judging.batch_forms import compare_forms, tell_forms
from reports.judging.batch_law import BatchLaw, Centre, Prediction, Z, find_centres
from reports.judging.edges import COVERAGE, EDGES, SPREAD, Edge
from reports.judging.recommendation import DISTANCE, SURE, TO_DIVERGENT, TO_GOOD, TO_TOO_HIGH, good_share
from reports.style import format_number

FEWEST = 3  # batch sizes, for a prediction
FURTHEST = 4.0  # times the largest or below the smallest batch size: further out nothing was tested
NEARLY = 0.98  # of the largest share of new seeds: as good, where none is sure
N_DRAWN = {"inside": 12, "below": 4, "above": 4}  # batch sizes for each stretch of a drawn law
FINE = 200  # learning rates a decade that are looked at
HEADINGS = ("batch size", "use", "safe", "good to", "diverges from (unsure)")
"""Of a table with a row an ``AtBatchSize``."""


class AtBatchSize(NamedTuple):
    """What is foretold at a batch size.

    use: the learning rate to use; low, high: the interval around it, good on at least ``share`` of new seeds.
    edges: ``Prediction`` by the names in ``EDGES``. decades: as in ``Prediction``. tried: whether the law rests on it.
    """

    batch_size: int
    use: float
    low: float
    high: float
    share: float
    edges: Mapping[str, Prediction]
    decades: float
    tried: bool

    @property
    def texts(self) -> list[str]:
        """What stands under ``HEADINGS``."""
        safe = f"{format_number(self.low)} to {format_number(self.high)}"
        edges = [_bracketed(self.edges[name]) if name in self.edges else "not known" for name in (TO_TOO_HIGH, TO_DIVERGENT)]
        return [str(self.batch_size), "~" * (self.share < COVERAGE) + format_number(self.use), safe, *edges]

    @property
    def sentence(self) -> str:
        """All of it in words."""
        size, use, safe, good_to, diverges = self.texts
        outside = f"a factor {format_number(10**self.decades, digits=2)} outside" if self.decades else "between"
        where = "one of" if self.tried else outside
        of = "" if self.share >= COVERAGE else ", good on half of new seeds only"
        found = f"use {use} ({safe}{of}); good to {good_to}; divergence begins at about {diverges}"
        return f"Batch size {size} ({where} those the law knows): {found}."


@dataclass(frozen=True)
class BatchAxis:
    """How the learning rate moves with the batch size in one study.

    centres: where each edge and the middle of the good range lie, by ``find_centres``, without those of ``left_out``.
    left_out: batch sizes whose runs were ended before they learned, and what share of the way they came. budget: of a run.
    recommended: learning rates recommended at the batch sizes tried, as far as known.
    """

    centres: Mapping[str, Sequence[Centre]]
    left_out: Mapping[int, float]
    budget: str = ""
    recommended: Mapping[int, float] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        """The batch sizes that predictions rest on, ascending."""
        return [centre.batch_size for centre in self.centres[TO_TOO_HIGH]]

    @property
    def foretells(self) -> bool:
        """Whether there are enough batch sizes for a prediction."""
        return all(sum(not centre.side for centre in self.centres[name]) >= FEWEST for name in (TO_GOOD, TO_TOO_HIGH))

    @cached_property
    def laws(self) -> dict[str, BatchLaw]:
        """Of each edge, and of the middle of the good range; without those that too few batch sizes know."""
        known = {name: [each for each in centres if not each.side] for name, centres in self.centres.items()}
        return {name: BatchLaw(self.centres[name]) for name, found in known.items() if len(found) >= FEWEST}

    def at(self, batch_size: float) -> AtBatchSize:
        """What is foretold at a batch size.

        Raises BadInput for fewer than three batch sizes with a good range, or more than a factor 4 outside of them.
        """
        sizes = self.sizes
        if not self.foretells:
            raise BadInput(
                f"at_batch_size needs a good range at {FEWEST} batch sizes or more, got {len(sizes)}: {_list(sizes)}"
            )
        if isinstance(batch_size, bool) or batch_size != int(batch_size) or not self.reaches(batch_size):
            low, high = math.ceil(min(sizes) / FURTHEST), math.floor(max(sizes) * FURTHEST)
            rule = f"a whole number from {low} to {high}, within a factor {FURTHEST:g} of those tried ({_list(sizes)})"
            raise BadInput(f"at_batch_size must be {rule}, got {batch_size}")
        found, shifts = self._derived(int(batch_size)), self._shifts
        if shifts:
            moved = np.interp(math.log(batch_size), np.log([*shifts]), [*shifts.values()])
            found = found._replace(use=float(np.clip(found.use * 10**moved, found.low, found.high)))
        return found

    @cached_property
    def _shifts(self) -> dict[int, float]:
        """Decades from what the edges alone give to what is recommended, which also goes by how well runs validate."""
        both = {size: (self.recommended[size], self._derived(size).use) for size in self.sizes if size in self.recommended}
        return {size: math.log10(use / derived) for size, (use, derived) in both.items()}

    def _derived(self, batch_size: int) -> AtBatchSize:
        """As ``at``, by the edges alone."""
        edges = self.edges_at(batch_size)
        spread = {name: _of_new_seed(edges[name]) for name in EDGES if name in edges}
        # Where too few batch sizes diverged, none of them does where it is good.
        spread.setdefault(TO_DIVERGENT, Edge(np.array([math.inf]), np.zeros(1)))
        first, last = (math.log10(edges[name].learning_rate) for name in (TO_GOOD, TO_TOO_HIGH))
        rates = 10 ** np.linspace(first - 1, last + 1, int(FINE * (2 + max(last - first, 0))))
        shares = np.array([good_share(spread, rate) for rate in rates])
        far = rates <= (spread[TO_DIVERGENT].quantile((1 - COVERAGE) / 2) / DISTANCE if TO_DIVERGENT in edges else math.inf)
        wanted = far & (shares >= min(SURE, NEARLY * shares.max()))
        best = int(np.where(wanted if wanted.any() else shares == shares.max(), shares, -1).argmax())
        level = COVERAGE if shares[best] >= COVERAGE else 0.5
        inside = rates[_around(best, (shares >= level) & (far | ~far[best]))]
        ends = (float(inside[0]), float(inside[-1])) if len(inside) else (float(rates[best]),) * 2
        outside = edges[TO_TOO_HIGH].decades
        return AtBatchSize(batch_size, float(rates[best]), *ends, level, edges, outside, batch_size in self.sizes)

    def reaches(self, batch_size: float) -> bool:
        """Whether a batch size is near enough to those tried."""
        return min(self.sizes) / FURTHEST <= batch_size <= max(self.sizes) * FURTHEST

    def edges_at(self, batch_size: float) -> dict[str, Prediction]:
        """What the laws foretell at any batch size."""
        edges = {name: law.predict(batch_size) for name, law in self.laws.items() if name in EDGES}
        if TO_DIVERGENT in edges:  # nothing diverges below where it stops being good, and that place is the surer one
            both = zip(edges[TO_DIVERGENT], edges[TO_TOO_HIGH], strict=True)
            edges[TO_DIVERGENT] = Prediction(*(max(pair) for pair in both))
        return edges

    @cached_property
    def stretches(self) -> dict[str, tuple[NDArray[np.float64], list[dict[str, Prediction]]]]:
        """Batch sizes to draw the laws at and ``edges_at`` them, each part ascending: among those tried, below, and above."""
        low, high = min(self.sizes), max(self.sizes)
        ends = {"inside": (low, high), "below": (low / FURTHEST, low), "above": (high, high * FURTHEST)}
        drawn = {part: np.geomspace(*both, N_DRAWN[part]) for part, both in ends.items()}
        return {part: (xs, [self.edges_at(x) for x in xs]) for part, xs in drawn.items()}

    @cached_property
    def choices(self) -> list[AtBatchSize]:
        """What is foretold at batch sizes to tell of: powers of two and those tried, as far out as is foretold."""
        sizes = self.sizes
        powers = {2**power for power in range(31)}
        return [self.at(size) for size in sorted(powers | set(sizes)) if self.reaches(size)]

    def tell(self) -> list[str]:
        """What is to be known of how the edges move, a sentence each."""
        found = []
        for name in (TO_TOO_HIGH, TO_DIVERGENT) if self.foretells else ():
            if told := tell_forms(compare_forms(self.centres[name])):
                found.append(f"{name}: {told}.")
        if self.foretells:
            of = f" ({self.budget})" if self.budget else ""
            moves = "twice as long moves it down by about 0.1 decades"
            found.append(f"{TO_GOOD}: belongs to how long a run is{of}, so it has no law; {moves}.")
        if self.left_out:
            short = "whose runs end before they have learned what others do"
            found.append(f"Left out: batch size {_list(sorted(self.left_out))}, {short}.")
        return found


def batch_axis(
    runs: pd.DataFrame,
    *,
    recommendations: pd.DataFrame | None = None,
    left_out: Mapping[int, float] | None = None,
    budget: str = "",
) -> BatchAxis:
    """The batch axis of a study; runs as ``classify`` returns them, recommendations as ``recommend`` does."""
    left_out = dict(left_out or {})
    known = {} if recommendations is None else recommendations.set_index("batch_size")["learning_rate"].to_dict()
    return BatchAxis(find_centres(runs[~runs["batch_size"].isin(list(left_out))]), left_out, budget, known)


def _of_new_seed(edge: Prediction) -> Edge:
    """The edge of a new seed at a batch size where the centre of all seeds is foretold."""
    middle = math.log10(edge.learning_rate)
    sd = math.hypot(math.log10(edge.high / edge.low) / (2 * Z), SPREAD)
    places = np.linspace(middle - 5 * sd, middle + 5 * sd, 400)
    return Edge(places, ndtr((places - middle) / sd))


def _around(index: int, inside: NDArray[np.bool_]) -> slice:
    """The stretch without a gap that holds ``index``."""
    below, above = np.flatnonzero(~inside[: index + 1]), np.flatnonzero(~inside[index:])
    return slice(int(below[-1]) + 1 if len(below) else 0, index + int(above[0]) if len(above) else len(inside))


def _bracketed(edge: Prediction) -> str:
    place, low, high = (format_number(each, digits=2) for each in edge[1:4])
    return f"{place} [{low} to {high}]"


def _list(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes)) or "none"
