"""Whether two studies differ by more than their seeds do: p values for edges, known to a gap only, and for numbers."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_ind_from_stats

from reports.judging.edges import weigh_centres

Floats = npt.NDArray[np.float64]
Gap = tuple[float, float]

# Standard deviation, as a factor, of the log-normal prior on the spread of a study's edges: wider than in
# ``reports.judging.edges``, as a spread taken for too small is a false alarm here. With 3 seeds and 4 rates a decade
# 2 to 4 % of equal edges then differ "beyond the spread" at a p value of 0.05 where seeds spread by up to 0.2 decades, 7 % at
# 0.3, the widest measured; edges a factor 2 apart are told in 6 of 10 cases, a factor 4 in 9 of 10. Of real studies drawn from
# the seeds of one (digits, with momentum, wine, diabetes: 48, 24, 36, 20; 3 against 3, 200 draws each) 0.5 to 2 % hold any
# difference beyond the spread after all corrections, 5 % with 6 against 6; momentum 0 against 0.9 (60 draws) always does.
SPREAD_FACTOR = math.exp(1.2)
BEYOND = 0.25  # decades; an edge outside what was tried is taken to lie at most this far beyond everything tried near it


def compare_edges(first: Sequence[Gap], second: Sequence[Gap]) -> float:
    """The two-sided p value of two studies' edges being in the same place.

    first, second: for each seed the gap its edge lies in, as ``fit_edge`` of ``reports.judging`` takes them. The posterior of
    each study's centre comes from the model described there; the p value is twice the probability that the one that looks
    lower is the higher, as with flat priors the posterior and the one-sided p value agree (Casella & Berger 1987). A
    permutation test could not do it: with 3 seeds against 3 its smallest p value is 0.1. An edge outside the range is taken
    to lie just beyond it, so a wide range is never a difference by itself. Missing (NaN) when every edge of both lies outside
    on the same side.
    """
    with np.errstate(divide="ignore"):
        logs = [np.log10(np.array(gaps, dtype=float)) for gaps in (first, second)]
    both = np.concatenate(logs)
    if np.isinf(both[:, 0]).all() or np.isinf(both[:, 1]).all():
        return math.nan
    low, high = both[np.isfinite(both)].min() - BEYOND, both[np.isfinite(both)].max() + BEYOND
    centres = np.linspace(low - 1, high + 1, 400)
    weights = (weigh_centres(gaps.clip(low, high), centres, spread_factor=SPREAD_FACTOR)[1] for gaps in logs)
    one, other = (each.sum(axis=1) for each in weights)
    above = float(one @ (np.cumsum(other) - other / 2))
    return min(2 * min(above, 1 - above), 1.0)


def compare_means(first: Floats, second: Floats) -> float:
    """The two-sided p value of two studies' means being equal: the larger of Welch's (1947) and Student's t test.

    With as many seeds in both that is Welch's. With 3 seeds against 36 Welch's alone calls 7 % of equal means different, and
    nearly all where three seeds happen to agree, as accuracies do; Student's is wrong where the few spread more.

    first, second: finite numbers, a seed each, at least two. Missing (NaN) when the seeds of neither study differ.
    """
    stats = [(values.mean(), values.std(ddof=1), len(values)) for values in (first, second)]
    if all(spread <= 1e-12 * abs(mean) for mean, spread, _ in stats):
        return math.nan
    # From statistics: ttest_ind warns of lost precision where all seeds of one study agree.
    return max(float(ttest_ind_from_stats(*stats[0], *stats[1], equal_var=equal).pvalue) for equal in (False, True))
