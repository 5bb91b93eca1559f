"""When a run may stop early because no verdict of its batch size can change any more.

*Certain* means: whatever the rest of this run does, and whatever all runs still to come at the batch size do (any curve,
non-finite, or failed and left out), ``classify`` gives every run and ``classify_cells`` every cell the verdict it would have
had. Edges and recommendation follow: they see verdicts, and validation metrics and times of good cells alone.

Without an assumption nothing is certain but that a non-finite run is divergent. As long as a run is finite its last step may
be non-finite, which is divergent at any learning rate, or its last heights may be the lowest of all, which is not divergent at
any. Above the fastest that is the whole story: *too high* or *divergent* is the height at the very end. Below it one
assumption helps:

    a run below the fastest learning rate that is finite at its deadline stays finite.

Then not good is *too low* there, and five things, all but the last known before the run starts, make it certain:

1. The floor is not this run's to set: with this run, and every seed to come, as low as can be, the median of its cell is no
   lower than the floor that the other cells have. Otherwise a slow run may end lowest of all, and then the fast ones were
   never at the bottom. A target loss is the floor, so that there is nothing to fear.
2. The floor lies between two bounds. A lower floor puts the bottom lower, so every time to bottom grows: this run's, but that
   of the fastest too, and with it the time that is still good. So the fastest is timed at the lowest floor: there must be a
   cell that stays there whatever its missing seeds do; its time there, times rho, is the deadline. Whether this run got to
   the bottom is asked at the highest floor.
3. Every cell at a lower learning rate is too slow to be the fastest, or cannot stay, at any floor in between: else this run
   may find itself above the fastest, where it might be divergent.
4. Its own cell is not good, however well this run and the seeds to come do: a slow run that stays can make a cell stay.
5. It has not been at the bottom by its deadline, so its time to bottom is longer than a good one.

A median is bounded once most of its seeds are known. So without a target loss nothing is certain before most seeds of *every*
cell are finished: seeds outermost, in the last of three, the last two of five, and with one seed or two never. With a target
loss the cells above the fastest do not matter, and this run counts among the known: the last two of three seeds, the last
three of five and a single one, if each seed starts with what may be the fastest and then goes up from the lowest.

A stopped run keeps the facts it has: its curve so far, the final height of that, and no non-finite step. Later decisions take
them for the facts of the whole run; as no single stop changes a verdict, all of them together do not. What does change: the
reason; the time to bottom of a cell that is too low, now inf, so that a row of the costs may have no time; the judgements on
the run's curve. And the curve stays short: to judge by other thresholds or with more seeds, stopped runs are trained again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.verdicts import FINISHED, Thresholds, time_to_bottom

Floats = npt.NDArray[np.float64]
ROUNDING = 1e-6  # of a time: interpolated times are compared at different floors


class Deadline(NamedTuple):
    """When one run may stop.

    epochs: not before. floor: the highest that the floor can be. level: the least progress, towards that floor, of the bottom.
    """

    epochs: float
    floor: float
    level: float


def may_stop(deadline: Deadline | None, epochs: Sequence[float] | Floats, heights: Sequence[float] | Floats) -> bool:
    """Whether a run can stop at its last measurement: at or past its deadline, finite, and never yet at the bottom.

    epochs, heights: of all measurements so far, from before the first step, as they will be stored; shape (n_points,).
    """
    if deadline is None or epochs[-1] < deadline.epochs:
        return False
    values = np.asarray(heights, dtype=float)
    way = values[0] - deadline.floor
    return bool(np.isfinite(values).all() and way > 0 and ((values[0] - values) / way < deadline.level).all())


def find_deadline(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    learning_rate: float,
    to_come: Sequence[float],
    thresholds: Thresholds | None = None,
) -> Deadline | None:
    """When a run that is about to start may stop; None if only at its end.

    runs, curves: the tables of ``studies.tables``, of one batch size. Runs that are not finished are not looked at.
    learning_rate: of the run. to_come: those of all other runs of this batch size that may yet be trained, each as often as
    there are runs; one that fails in the end does no harm.

    Raises ValueError for runs of several batch sizes.
    """
    sizes = sorted(set(runs["batch_size"].tolist()))
    if len(sizes) > 1:
        raise ValueError(f"runs must be of one batch size, got {sizes}")
    thresholds = thresholds or Thresholds()
    finished = runs[runs["state"] == FINISHED]
    unknown = Counter(to_come)
    unknown[learning_rate] += 1
    ends: dict[float, list[float]] = {rate: [] for rate in unknown}
    for rate, end in zip(finished["learning_rate"], finished["final_height"], strict=True):
        ends.setdefault(rate, []).append(end)

    lowest = highest = thresholds.target_loss
    if lowest is None or highest is None:
        others = [rate for rate in ends if rate != learning_rate]
        lowest = min((_median(ends[rate], unknown[rate], -math.inf) for rate in others), default=-math.inf)
        highest = min((_median(ends[rate], unknown[rate], math.inf) for rate in others), default=math.inf)
        own = _median(ends[learning_rate], unknown[learning_rate], -math.inf)
        if own < highest or not (math.isfinite(lowest) and math.isfinite(highest)):
            return None

    level = 1 - thresholds.tau
    cells = _bound_cells(finished, curves, unknown, floors=(lowest, highest), level=level)
    others = [rate for rate in cells if rate != learning_rate]
    latest = min((cells[rate].latest for rate in others if cells[rate].least >= level), default=math.inf)
    if math.isinf(latest):
        return None
    deadline = thresholds.rho * latest * (1 + ROUNDING)
    own_times = [*cells[learning_rate].times, deadline]  # at least, and more than that
    slow = _median(own_times, unknown[learning_rate] - 1, 0.0) >= deadline
    if not (slow or cells[learning_rate].most < level):
        return None
    below = [cells[rate] for rate in others if rate < learning_rate]
    if any(cell.soonest <= latest * (1 + ROUNDING) and cell.most >= level for cell in below):
        return None
    return Deadline(deadline, highest, level)


class _Cell(NamedTuple):
    """Bounds of a cell: median time to bottom and median final progress, and the soonest times of the runs that are known."""

    soonest: float
    latest: float
    least: float
    most: float
    times: list[float]


def _bound_cells(
    finished: pd.DataFrame, curves: pd.DataFrame, unknown: Counter[float], *, floors: tuple[float, float], level: float
) -> dict[float, _Cell]:
    lowest, highest = floors
    heights = {
        trial: (group["epoch"].to_numpy(float), group["value"].to_numpy(float))
        for trial, group in curves[curves["metric"] == "height"].sort_values(["trial", "step"]).groupby("trial")
    }
    bounds: dict[float, list[tuple[float, float, float, float]]] = {rate: [] for rate in unknown}
    for run in finished.to_dict("records"):
        start, end = run["first_height"], run["final_height"]
        epochs, values = heights.get(run["trial"], (np.zeros(1), np.array([start])))
        soonest, latest, least, most = 0.0, math.inf, -math.inf, math.inf
        if not math.isfinite(start):
            soonest, most = math.inf, -math.inf
        elif start > highest:  # there is a way down at every floor
            soonest = time_to_bottom(epochs, (start - values) / (start - highest), level=level)
            latest = time_to_bottom(epochs, (start - values) / (start - lowest), level=level)
            least, most = sorted(((start - end) / (start - lowest), (start - end) / (start - highest)))
        bounds.setdefault(run["learning_rate"], []).append((soonest, latest, least, most))
    return {
        rate: _Cell(
            soonest=_median([bound[0] for bound in found], unknown[rate], 0.0),
            latest=_median([bound[1] for bound in found], unknown[rate], math.inf),
            least=_median([bound[2] for bound in found], unknown[rate], -math.inf),
            most=_median([bound[3] for bound in found], unknown[rate], math.inf),
            times=[bound[0] for bound in found],
        )
        for rate, found in bounds.items()
    }


def _median(known: Sequence[float], n_unknown: int, worst: float) -> float:
    """The median when the unknown values are as bad for a bound as can be; left out, they would be no worse."""
    values = sorted([*known, *[worst] * n_unknown])
    low, high = values[(len(values) - 1) // 2], values[len(values) // 2]
    middle = low if low == high else (low + high) / 2
    return worst if math.isnan(middle) else middle
