"""Where to look next when no learning rate of a batch size is good: a range, from the heights that were recorded."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from reports.style import DIVERGENT, GOOD, format_number

# From the edge a first step shows, down and up: this held both edges of the good range in 94 to 100 % of 65 cells (MLPs and
# ConvNets on digits, MNIST, wine, cancer and diabetes, SGD with and without momentum, no batch norm).
BELOW, ABOVE = 100.0, 4.0
OVERFLOWED = 1e4  # a first step that is not finite shows no edge; float32 ends at 1e38, which a step reaches from far away
UP, FAR_UP = 10.0, 1000.0
APART = 2.0  # two learning rates, at least, to tell from them by which power of the rate the height grows
STRAIGHT = 0.9  # of the first half's fall in the second half: a run this straight has come 19 % of an exponential's way


class NextRange(NamedTuple):
    """Learning rates to try, and what was seen that speaks for them."""

    low: float
    high: float
    why: str


def next_ranges(runs: pd.DataFrame, cells: pd.DataFrame, curves: pd.DataFrame) -> dict[int, NextRange]:
    """By batch size where to look next; those with a good learning rate, or with the best one inside the range, are left out.

    runs, cells: as ``classify`` and ``classify_cells`` return them; curves: as recorded.
    """
    found = {}
    for size, group in cells.groupby("batch_size"):
        if (group["verdict"] == GOOD).any():
            continue
        tried, progress = group["learning_rate"], group["progress"]
        best = tried[progress == progress.max()].max()
        mine = runs[(runs["batch_size"] == size) & runs["verdict"].notna()]
        diverged = bool((group["verdict"] == DIVERGENT).all())
        if diverged or (best == tried.min() and len(tried) > 1):
            found[int(size)] = _below(float(tried.min()), _first_growths(mine, curves), diverged=diverged)
        elif best == tried.max():
            found[int(size)] = _above(float(best), mine[mine["learning_rate"] == best], curves)
    return found


def divergence_begins(growths: Mapping[float, float]) -> float:
    """The learning rate below which a first step would not raise the height, at most the lowest of those tried.

    growths: by learning rate the logarithm of (height after the first step / height before it), finite; not empty.

    A step of gradient descent on a parabola multiplies the distance to the bottom by 1 - rate x curvature and the height by
    its square; beyond the edge, 2 / curvature, the height grows, so one height after one step gives the curvature. In a network
    of several layers the square becomes a higher even power, which the next learning rate tried shows.

    It is wrong where the floor is far from 0 (the edge is thought higher than it is), where the hill is steeper further on
    than at the start (runs that fell at first and rose later: the lowest learning rate tried is given back), and where the
    power is not known, as only one learning rate has a finite first step (thought lower than it is).

    >>> round(divergence_begins({1.0: math.log(9.0**2)}), 6)  # curvature 10
    0.2
    >>> round(divergence_begins({1.0: math.log(9.0**4), 10.0: math.log(99.0**4)}), 6)
    0.2
    """
    lowest = min(growths)
    power, others = 2.0, sorted(rate for rate in growths if rate >= APART * lowest)
    if others:
        slope = (growths[others[0]] - growths[lowest]) / math.log(others[0] / lowest)
        power = max(power, 2.0 * round(slope / 2))
    steepness = float(np.logaddexp(0.0, growths[lowest] / power))  # log(rate x curvature), which has no largest number
    return min(math.exp(math.log(2 * lowest) - steepness), lowest)


def _below(lowest: float, growths: Mapping[float, float], *, diverged: bool) -> NextRange:
    if growths.get(lowest) == math.inf:
        return NextRange(lowest / OVERFLOWED, lowest, "the first height after the start is not finite already")
    finite = {rate: growth for rate, growth in growths.items() if growth < math.inf}
    if not finite.get(lowest, 0) > 0:
        rose = diverged and lowest in finite
        return NextRange(
            lowest / BELOW, lowest, "heights fell at first and rose later" if rose else "lower ones were not tried"
        )
    edge = divergence_begins(finite)
    why = f"by how far the first step rose, heights begin to fall near {format_number(edge, digits=2)}"
    return NextRange(float(f"{edge / BELOW:.2g}"), min(float(f"{edge * ABOVE:.2g}"), lowest), why)


def _above(highest: float, runs: pd.DataFrame, curves: pd.DataFrame) -> NextRange:
    falls = np.zeros(2)
    for _, heights in _heights(runs, curves).groupby("trial"):
        epochs, values = heights["epoch"].to_numpy(float), heights["value"].to_numpy(float)
        if np.isfinite(values).all():
            falls -= np.diff(np.interp([0, epochs[-1] / 2, epochs[-1]], epochs, values))
    if falls[1] >= STRAIGHT * falls[0]:
        return NextRange(highest, highest * FAR_UP, "heights still fall along a straight line at the highest")
    return NextRange(highest, highest * UP, "the highest learning rate tried came furthest")


def _first_growths(runs: pd.DataFrame, curves: pd.DataFrame) -> dict[float, float]:
    """By learning rate the logarithm of how many times its height grew in the first step, of the seed that grew most.

    Seeds whose first step is not finite count where all are so: inf. Left out is what has no height above 0 before and after.
    Where the first step that was measured is a later one its growth is shared by the steps.
    """
    heights = _heights(runs, curves)
    rates = runs.set_index("trial")["learning_rate"]
    found: dict[float, list[float]] = {}
    for trial, path in heights.groupby("trial"):
        steps, values = path["step"].to_numpy(int)[:2], path["value"].to_numpy(float)[:2]
        if len(values) == 2 and steps[0] == 0 and (values > 0).all() and math.isfinite(values[0]):
            growth = math.log(values[1]) - math.log(values[0]) if math.isfinite(values[1]) else math.inf
            found.setdefault(float(rates[trial]), []).append(growth / float(steps[1]))
    return {rate: max((g for g in each if g < math.inf), default=math.inf) for rate, each in found.items()}


def _heights(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    rows = curves[(curves["metric"] == "height") & curves["trial"].isin(runs["trial"])]
    return rows.sort_values(["trial", "step"])
