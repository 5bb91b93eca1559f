"""When the verdict of a run is known before its budget is spent, so that it may end there.

Below the fastest a run that is at the bottom early enough is good and one that is not is too low, whatever comes later. Above
it a run is judged after ``CUT`` times the fastest's time as if that were its end, as long as a run that was trained on agrees
(with SGD 97.5 to 99.8 % of the runs of 13 dense grids are judged as their full run is). Without pandas, as those need it who
only train.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BY_SEARCH = "the search"  # who ended such a run, in the column ``ended_early`` of ``runs``
CUT = 4.5  # times the fastest's time to the bottom: at 3 times only 92 to 99 % are judged alike
Floats = npt.NDArray[np.float64]


class Yardstick(NamedTuple):
    """What runs of one batch size are judged by.

    floor: height; learning_rate, time: of the fastest, in epochs, inf where nothing is; level: progress at the bottom; rho: as
    in ``Thresholds``; cuts_above: whether runs above the fastest may be cut.
    """

    floor: float
    learning_rate: float
    time: float
    level: float
    rho: float
    cuts_above: bool = True

    def decides(self, learning_rate: float, epochs: Floats, heights: Floats) -> bool:
        """Whether the verdict of a run is known by its heights so far; epochs, heights: shape (n_points,), from epoch 0 on."""
        if not math.isfinite(heights[-1]):
            return True
        if not (math.isfinite(self.time) and heights[0] > self.floor) or learning_rate == self.learning_rate:
            return False  # the fastest must show that it stays
        if learning_rate > self.learning_rate:
            return self.cuts_above and bool(epochs[-1] >= CUT * self.time)
        arrived = heights <= heights[0] - self.level * (heights[0] - self.floor)
        return bool(epochs[-1] > self.rho * self.time or arrived.any())


class Query(NamedTuple):
    """A run to train: to ``epochs``, or until its verdict is known by ``yardstick`` where there is one."""

    learning_rate: float
    seed: int
    epochs: float
    yardstick: Yardstick | None = None

    def is_over(self, epochs: Floats, heights: Floats) -> bool:
        """Whether the run may end here; epochs, heights: shape (n_points,), from epoch 0 on."""
        if epochs[-1] >= self.epochs:
            return True
        return self.yardstick is not None and self.yardstick.decides(self.learning_rate, epochs, heights)
