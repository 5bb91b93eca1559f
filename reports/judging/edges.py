"""Where one verdict gives way to the next: an estimate and a 90 % interval for each edge, from grid spacing and seeds.

Each seed has an edge of its own, known only to lie between two learning rates that were tried. The edges of seeds are taken
as normal in log10(learning rate), and each seed contributes the probability of its gap: maximum likelihood for
interval-censored data (Turnbull 1976; Lindsey & Ryan 1998), made Bayesian by a flat prior on the centre and a prior on the
spread, so that two seeds that agree by luck do not give an interval of width zero. Reported is the predictive distribution
of the edge of one more seed, by sums over a grid. A finer grid narrows the gaps; more seeds settle the spread.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from reports.style import DIVERGENT, GOOD, TOO_HIGH, TOO_LOW, VERDICTS, format_number

Floats = npt.NDArray[np.float64]

COVERAGE = 0.9  # of the intervals: the edge of another seed lies inside with this probability
# Standard deviation of the edges of seeds, in decades: measured with 8 seeds on six networks and batch sizes (MLPs on breast
# cancer, diabetes, wine and digits, ConvNets on digits), its median is 0.09 and it ranges from 0.04 to 0.3. A little above
# the median covers the third seed best there; the shipped reference grids were kept for testing.
SPREAD, SPREAD_FACTOR = 0.12, math.exp(0.8)  # median and one standard deviation, as a factor, of the log-normal prior

DISPUTED = 4.0  # times, twice the largest spread of seeds above: runs on both sides over a wider range are no threshold

EDGES: dict[str, tuple[str, str]] = {
    "too low to good": (TOO_LOW, GOOD),
    "good to too high": (GOOD, TOO_HIGH),
    "too high to divergent": (TOO_HIGH, DIVERGENT),
}
"""Names of the three edges, lowest first, and the verdicts below and above."""

EDGE_COLUMNS = ("batch_size", "edge", "learning_rate", "low", "high", "n_seeds", "wrong_side", "note")


@dataclass(frozen=True)
class Edge:
    """The edge of one more seed, as a distribution over log10(learning rate).

    positions, shares: shape (n_positions,), ascending; shares[i] of the seeds have their edge at or below positions[i]. A
    single position is the end of what was tried, with share 0 when every seed's edge is above it and 1 when it is below.
    """

    positions: Floats
    shares: Floats

    @property
    def inside(self) -> bool:
        """Whether any seed has its edge inside the range of learning rates tried."""
        return len(self.positions) > 1

    def quantile(self, share: float) -> float:
        """The learning rate below which this share of the seeds have their edge."""
        return float(10 ** np.interp(share, self.shares, self.positions))

    def share_below(self, learning_rate: float) -> float:
        """The share of seeds whose edge lies below a learning rate, 0 to 1."""
        return float(np.interp(math.log10(learning_rate), self.positions, self.shares))


def fit_edge(gaps: Sequence[tuple[float, float]]) -> Edge:
    """The distribution of the edge of one more seed, from the gap that each seed's edge lies in.

    gaps: (highest learning rate below the edge, lowest above it) of each seed; 0 and inf where nothing was tried there.
    """
    with np.errstate(divide="ignore"):
        logs = np.log10(np.array(gaps, dtype=float))
    lows, highs = logs.T
    if np.isinf(highs).all():
        return Edge(np.array([lows.max()]), np.zeros(1))
    if np.isinf(lows).all():
        return Edge(np.array([highs.min()]), np.ones(1))
    ends = logs[np.isfinite(logs)]
    centres = np.linspace(ends.min() - 1.5, ends.max() + 1.5, 400)
    spreads, weights = weigh_centres(logs, centres, spread_factor=SPREAD_FACTOR)
    positions = np.linspace(centres[0] - 1, centres[-1] + 1, 400)
    shares = np.zeros(len(positions))
    for spread, column in zip(spreads, weights.T, strict=True):
        shares += ndtr((positions[:, None] - centres[None, :]) / spread) @ column
    return Edge(positions, np.maximum.accumulate(shares))


def weigh_centres(gaps: Floats, centres: Floats, *, spread_factor: float) -> tuple[Floats, Floats]:
    """The spreads looked at, shape (n_spreads,), and the posterior of centre and spread, shape (n_centres, n_spreads).

    gaps: of each seed's edge, shape (n_seeds, 2), and centres, shape (n_centres,), where the prior is flat: both in
    log10(learning rate). spread_factor: one standard deviation of the log-normal prior on the spread.
    """
    spreads = np.geomspace(SPREAD / 20, SPREAD * 12, 24)
    weights = np.exp(-0.5 * (np.log(spreads / SPREAD) / math.log(spread_factor)) ** 2)[None, :]
    for low, high in gaps:
        weights = weights * (ndtr((high - centres[:, None]) / spreads) - ndtr((low - centres[:, None]) / spreads))
    return spreads, weights / weights.sum()


def seed_gap(learning_rates: Floats, above: npt.NDArray[np.bool_]) -> tuple[float, float, int]:
    """The gap one seed's edge lies in, and the number of its runs on the wrong side of it.

    learning_rates: ascending; above: which of them are judged above the edge. The edge stands where the fewest runs are on
    the wrong side; where several places are equally good the gap spans them all.
    """
    below = np.concatenate([[0], np.cumsum(above)])  # how many of the first k are judged above
    wrong = below + (~above).sum() - (np.arange(len(above) + 1) - below)
    best = np.flatnonzero(wrong == wrong.min())
    rates = np.concatenate([[0.0], learning_rates, [math.inf]])
    return float(rates[best[0]]), float(rates[best[-1] + 1]), int(wrong.min())


def fit_edges(runs: pd.DataFrame) -> dict[int, dict[str, Edge]]:
    """For each batch size the three edges, by the names in ``EDGES``; runs as ``classify`` returns them.

    No seed diverges below where it stops being good: a higher edge never has more seeds below a learning rate than a lower.
    """
    found: dict[int, dict[str, Edge]] = {}
    for size, gaps in seed_gaps(runs).items():
        lower: Edge | None = None
        for name in EDGES:
            edge = fit_edge([gap[:2] for gap in gaps[name]])
            if lower is not None:
                allowed = np.interp(edge.positions, lower.positions, lower.shares)
                edge = Edge(edge.positions, np.minimum(edge.shares, allowed))
            found.setdefault(size, {})[name] = lower = edge
    return found


def find_edges(runs: pd.DataFrame, fitted: Mapping[int, Mapping[str, Edge]] | None = None) -> pd.DataFrame:
    """The three edges of every batch size; runs as ``classify`` returns them, those without a verdict are left out.

    fitted: what ``fit_edges`` found in the same runs, should that be known already.

    Columns: ``batch_size``; ``edge``, a name in ``EDGES``; ``learning_rate``, half of all seeds have their edge below;
    ``low`` and ``high``, between which the edge of another seed lies with 90 % probability; where the edge is outside the
    learning rates tried ``learning_rate`` is missing and ``low`` is the highest tried and ``high`` inf, or ``low`` 0 and
    ``high`` the lowest tried; where it is no threshold both hold at least the range in which runs lie on both sides, but for an
    odd one; ``n_seeds``; ``wrong_side``, the share of runs on the wrong side of their own seed's edge,
    0 for a clean threshold; ``note``, what to know about it, or "".
    """
    rows, fitted = [], fitted or fit_edges(runs)
    for size, gaps in seed_gaps(runs).items():
        group = runs[(runs["batch_size"] == size) & runs["verdict"].notna()]
        for name in EDGES:
            edge, wrong = fitted[size][name], sum(gap[2] for gap in gaps[name])
            ends, notes = _ends(edge), _notes(group, name, edge, wrong)
            if disputed := _disputed(group, name):
                first, last = map(format_number, disputed)
                span = f"{first} on" if last == "inf" else f"{first} to {last}"
                notes.append(f"no threshold: from {span} runs lie on both sides of it")
                ends |= {"low": min(ends["low"], disputed[0]), "high": max(ends["high"], disputed[1])}
            rows.append(
                {"batch_size": size, "edge": name, **ends}
                | {"n_seeds": len(gaps[name]), "wrong_side": wrong / len(group), "note": "; ".join(notes)}
            )
    return pd.DataFrame(rows, columns=list(EDGE_COLUMNS))


def _ends(edge: Edge) -> dict[str, float]:
    if edge.inside:
        low, middle, high = (edge.quantile(share) for share in ((1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2))
        return {"learning_rate": middle, "low": low, "high": high}
    end = float(10 ** edge.positions[0])
    low, high = (0.0, end) if edge.shares[0] else (end, math.inf)
    return {"learning_rate": math.nan, "low": low, "high": high}


def _disputed(group: pd.DataFrame, name: str) -> tuple[float, float] | None:
    """Between which learning rates runs lie on both sides of an edge, None where that is no wider than seeds differ.

    An odd run on either side does not count. The upper end is inf where the highest learning rate tried is one.
    """
    above = group["verdict"].map(VERDICTS.index) >= 1 + list(EDGES).index(name)
    higher, lower = (np.sort(group.loc[side, "learning_rate"].to_numpy(float)) for side in (above, ~above))
    if min(len(higher), len(lower)) < 2 or lower[-2] <= DISPUTED * higher[1]:
        return None
    return float(higher[1]), math.inf if lower[-2] == group["learning_rate"].max() else float(lower[-2])


def _notes(group: pd.DataFrame, name: str, edge: Edge, wrong: int) -> list[str]:
    below, above = EDGES[name]
    notes = []
    if not edge.inside:
        side = "above the lowest" if edge.shares[0] else "below the highest"
        notes.append(f"not inside the range: no run {side} learning rate tried is on the other side")
    if wrong:
        notes.append(f"not a clean threshold: {wrong} of {len(group)} runs are on the wrong side")
    inner = above if name == next(iter(EDGES)) else below
    without = int((~(group["verdict"] == inner).groupby(group["seed"]).any()).sum())
    if without and edge.inside:
        notes.append(f"{inner} has no band of its own in {without} of {group['seed'].nunique()} seeds")
    return notes


def seed_gaps(runs: pd.DataFrame) -> dict[int, dict[str, list[tuple[float, float, int]]]]:
    """For each batch size and edge what ``seed_gap`` says of every seed; runs as ``classify`` returns them."""
    found: dict[int, dict[str, list[tuple[float, float, int]]]] = {}
    judged = runs[runs["verdict"].notna()].sort_values("learning_rate")
    for (size, _), seed in judged.groupby(["batch_size", "seed"]):
        ranks = seed["verdict"].map(VERDICTS.index).to_numpy(int)
        rates = seed["learning_rate"].to_numpy(float)
        names = found.setdefault(int(size), {name: [] for name in EDGES})
        for rank, name in enumerate(EDGES, start=1):
            names[name].append(seed_gap(rates, ranks >= rank))
    return found
