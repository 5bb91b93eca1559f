"""Where a run ended: one number from its heights. Without pandas, as those need it who only train."""

import math

import numpy as np
import numpy.typing as npt

RISE = 0.1  # of the way from the first to the lowest height: who is as far above its lowest is no longer at its bottom
Floats = npt.NDArray[np.float64]


def final_height(epochs: Floats, heights: Floats, *, ended_early: bool = False) -> float:
    """Median of the heights in the last tenth of a run, at least three of them; inf when the run turned non-finite.

    epochs, heights: shape (n_points,), in order of time; the point at epoch 0 counts only when there are no three others.
    ended_early: whether somebody ended the run before its budget. One that was ended by its own explosion, above its lowest
    height and above that median, ends at its last height: in a short run most of the last three are from before it.
    """
    if not np.isfinite(heights).all():
        return math.inf
    first = min(int(np.searchsorted(epochs, 0.9 * epochs[-1])), max(len(heights) - 3, 0))
    median, lowest, last = float(np.median(heights[first:])), float(heights.min()), float(heights[-1])
    exploded = last - lowest > RISE * (float(heights[0]) - lowest) and last > median
    return last if ended_early and exploded else median
