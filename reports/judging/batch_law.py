"""How the edges move with the batch size: what was measured at some batch sizes foretells them at another.

The law of an edge is log10(rate) = a - p log10(1 + B_noise / B) + noise: steps are worth more the less noise is in them, up to
the batch size B_noise where no more is gained (p = 1: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training",
section 2.2; p = 1/2 for Adam: Li et al. 2024, "Surge Phenomenon in Optimal Learning Rate and Batch Size Scaling", below its
peak). Constant, square-root and linear rules are its limits. It is fitted with a prior on everything but ``a`` by a sum over
a grid, so that three batch sizes give an interval that is as wide as they leave it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import log_ndtr, ndtr

from reports.judging.edges import COVERAGE, EDGES, SPREAD, SPREAD_FACTOR, seed_gaps, weigh_centres
from reports.style import GOOD

Floats = npt.NDArray[np.float64]
TO_GOOD, TO_TOO_HIGH, TO_DIVERGENT = EDGES
MIDDLE = "middle of the good range"
# The prior and the growth of the interval, chosen on ten networks (MLPs and ConvNets on digits, MNIST, wine, breast cancer and
# diabetes; momentum 0 and 0.9), batch sizes 8 to 1,024.
POWERS = {0.5: 0.25, 0.75: 0.25, 1.0: 0.5}
NOISE_SCALE = (1.5, 0.8)  # mean and standard deviation of log10(B_noise)
SCATTER = (0.06, 2.0)  # about the law, in decades: median, and one standard deviation as a factor
Z = 1.645  # standard deviations on either side of the middle of a 90 % interval
UNLIKELY = 1e-5  # against the likeliest part
BEYOND = 0.25  # decades of standard deviation for each decade of batch size outside those that are known


class Centre(NamedTuple):
    """Where an edge lies at a batch size, by its seeds, in log10(learning rate).

    mean, sd: of the centre of the seeds' edges. side: 0; 1 where it lies above all that was tried and ``mean`` is the highest,
    -1 where it lies below and ``mean`` is the lowest: both then bound it, and ``sd`` is the usual spread of a seed.
    """

    batch_size: int
    mean: float
    sd: float
    side: int = 0

    @property
    def learning_rates(self) -> tuple[float, float, float]:
        """Its 90 % interval and its middle, ascending."""
        return 10 ** (self.mean - Z * self.sd), 10**self.mean, 10 ** (self.mean + Z * self.sd)


class Prediction(NamedTuple):
    """The learning rate of an edge at a batch size, with its 90 % interval.

    decades: how far the batch size is outside those that are known, 0 between them.
    """

    batch_size: float
    learning_rate: float
    low: float
    high: float
    decades: float


@dataclass(frozen=True)
class BatchLaw:
    """The law of one edge after the batch sizes in ``centres``, of which at least one is not a bound."""

    centres: Sequence[Centre]

    def predict(self, batch_size: float) -> Prediction:
        """Where the edge lies at any batch size above 0."""
        sizes = [centre.batch_size for centre in self.centres]
        decades = max(math.log10(min(sizes) / batch_size), math.log10(batch_size / max(sizes)), 0.0)
        tops, powers, scales, sds, weights = self._parts
        means, sds = tops - _lost(powers, scales, batch_size), np.hypot(sds, BEYOND * decades)
        places = np.linspace((means - 4 * sds).min(), (means + 4 * sds).max(), 200)
        shares = ndtr((places[:, None] - means) / sds) @ weights
        low, middle, high = (
            float(10 ** np.interp(share, shares, places)) for share in ((1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2)
        )
        return Prediction(batch_size, middle, low, high, decades)

    @cached_property
    def _parts(self) -> "_Parts":
        """The posterior."""
        axes = np.meshgrid(
            [*POWERS], _grid(*NOISE_SCALE, n=25), _grid(math.log(SCATTER[0]), math.log(SCATTER[1]), n=7), indexing="ij"
        )
        powers, scales, scatter = (axis.ravel() for axis in axes)
        spreads = np.exp(scatter)
        prior = np.log([POWERS[power] for power in powers])
        prior -= ((scales - NOISE_SCALE[0]) / NOISE_SCALE[1]) ** 2 / 2
        prior -= ((scatter - math.log(SCATTER[0])) / math.log(SCATTER[1])) ** 2 / 2
        exact = [centre for centre in self.centres if not centre.side]
        # Of ``a``, (n_exact, n_parts).
        tops = np.array([centre.mean + _lost(powers, scales, centre.batch_size) for centre in exact])
        precisions = 1 / (spreads**2 + np.array([[centre.sd**2] for centre in exact]))
        total = precisions.sum(0)
        best = (precisions * tops).sum(0) / total
        fit = prior + (np.log(precisions).sum(0) - np.log(total) - (precisions * (tops - best) ** 2).sum(0)) / 2
        bounds = [centre for centre in self.centres if centre.side]
        if not bounds:
            return _likely(best, powers, scales, np.hypot(spreads, total**-0.5), logs=fit)
        nodes, shares = np.polynomial.hermite_e.hermegauss(9)  # Gauss-Hermite quadrature over ``a``, n_nodes for each part
        powers, scales, spreads, fit = (np.tile(each, len(nodes)) for each in (powers, scales, spreads, fit))
        places: Floats = np.repeat(nodes, len(best)) / np.sqrt(np.tile(total, len(nodes))) + np.tile(best, len(nodes))
        fit += np.repeat(np.log(shares), len(best))
        for bound in bounds:
            z = (places - _lost(powers, scales, bound.batch_size) - bound.mean) / np.hypot(spreads, bound.sd)
            fit += log_ndtr(bound.side * z)
        return _likely(places, powers, scales, spreads, logs=fit)


def _lost(powers: Floats, scales: Floats, size: float) -> Floats:
    """Decades below ``a`` at a batch size."""
    return np.asarray(powers * np.log10(1 + 10**scales / size))


class _Parts(NamedTuple):
    """The normal parts of a posterior, each (n_parts,): ``a`` less p log10(1 + 10^scale / B), with deviation and weight."""

    tops: Floats
    powers: Floats
    scales: Floats
    sds: Floats
    weights: Floats


def _likely(*parts: Floats, logs: Floats) -> _Parts:
    """The parts that are not next to impossible."""
    weights = np.exp(logs - logs.max())
    likely = weights > UNLIKELY
    return _Parts(*(part[likely] for part in (*parts, weights / weights[likely].sum())))


def _grid(mean: float, sd: float, n: int) -> Floats:
    """Places within three standard deviations, where a normal distribution has all but 0.3 % of its mass."""
    return np.linspace(mean - 3 * sd, mean + 3 * sd, n)


def find_centres(runs: pd.DataFrame) -> dict[str, list[Centre]]:
    """Where each edge and the middle of the good range lie at each batch size; runs as ``classify`` returns them.

    Without the batch sizes that have no good run; the middle also without those where an end of the good range was not tried.
    """
    found: dict[str, list[Centre]] = {name: [] for name in (*EDGES, MIDDLE)}
    good = set(runs.loc[runs["verdict"] == GOOD, "batch_size"])
    for size, gaps in sorted(seed_gaps(runs[runs["batch_size"].isin(good)]).items()):
        centres = {name: _centre(size, [gap[:2] for gap in gaps[name]]) for name in EDGES}
        for name, centre in centres.items():
            found[name].append(centre)
        low, high = centres[TO_GOOD], centres[TO_TOO_HIGH]
        if not (low.side or high.side):
            found[MIDDLE].append(Centre(size, (low.mean + high.mean) / 2, math.hypot(low.sd, high.sd) / 2))
    return found


def _centre(size: int, gaps: Sequence[tuple[float, float]]) -> Centre:
    """The posterior of the centre of the seeds' edges (``weigh_centres``), from the gap of each seed's edge."""
    with np.errstate(divide="ignore"):
        logs = np.log10(np.array(gaps, dtype=float))
    of_all = SPREAD / math.sqrt(len(gaps))
    if np.isinf(logs[:, 1]).all():
        return Centre(size, float(logs[:, 0].max()), of_all, side=1)
    if np.isinf(logs[:, 0]).all():
        return Centre(size, float(logs[:, 1].min()), of_all, side=-1)
    ends = logs[np.isfinite(logs)]
    places = np.linspace(ends.min() - 1.5, ends.max() + 1.5, 400)
    weights = weigh_centres(logs, places, spread_factor=SPREAD_FACTOR)[1].sum(1)
    mean = float(weights @ places)
    return Centre(size, mean, math.sqrt(float(weights @ (places - mean) ** 2)))
