"""Batch sizes that the budget starves: equal epochs give a large one few steps, and its own floor hides how far it came."""

import math
import statistics
from collections.abc import Sequence

import pandas as pd

from reports.judging.verdicts import Thresholds, ended_early, find_floors, split_curves, was_cut
from reports.style import GOOD

FAR = 0.9  # share of the way of the best batch size: those that come less far have a floor of their own making
SAME_START = 0.1  # of the best way: where untrained heights differ more between sizes, their heights are not of one kind
STILL_FALLS = 0.05  # of its own way in the second half of its budget: less is a floor, which no budget mends
LONGER = 1.5  # the steps that the best size took, times this: other sizes may take some more


def starved_sizes(runs: pd.DataFrame, curves: pd.DataFrame | None = None) -> dict[int, float]:
    """Starved batch sizes, and the share of the best size's way that they come; none where heights cannot be compared.

    A way is that from the start, the median first height of all runs, to the floor of a size. Sizes where nothing is good are
    left out, as are, with ``curves``, those whose good runs have all stopped to fall.

    runs: as ``classify`` returns them; curves: as it takes them.
    """
    judged = runs[runs["verdict"].notna()]
    start, starts = judged["first_height"].median(), judged.groupby("batch_size")["first_height"].median()
    ways = {size: start - floor for size, floor in find_floors(judged, Thresholds()).items() if math.isfinite(floor)}
    best = max(ways.values(), default=0.0)
    if not 0 < best < math.inf or starts.max() - starts.min() > SAME_START * best:
        return {}
    good = set(judged.loc[judged["verdict"] == GOOD, "batch_size"])
    shares = {size: way / best for size, way in ways.items() if way < FAR * best and (size in good or curves is not None)}
    return {size: float(share) for size, share in shares.items() if curves is None or _still_falls(judged, curves, size)}


def steps_to_come_as_far(runs: pd.DataFrame, cells: pd.DataFrame, starved: Sequence[int]) -> tuple[int, float]:
    """Optimizer steps that the starved sizes may need to come as far as the best one, and those of an epoch, the fewest.

    As many as the fastest at the best size took to the bottom, and half as many again; twice what they had where that is less.
    """
    judged = runs[runs["verdict"].notna()]
    mine = judged[judged["batch_size"].isin(starved)]
    floors = find_floors(judged, Thresholds())
    good = cells[(cells["verdict"] == GOOD) & (cells["batch_size"] == min(floors, key=floors.__getitem__))]
    needed, had = good["time_to_bottom_steps"].min(), float(mine.groupby("batch_size")["steps"].max().min())
    per_epoch = float((mine["steps"] / mine["epochs"]).min())
    return math.ceil(max(LONGER * needed if math.isfinite(needed) else 0, 2 * had)), per_epoch


def _still_falls(judged: pd.DataFrame, curves: pd.DataFrame, size: int) -> bool:
    """Whether any of the good cells of a size, or the lowest one, fell in the second half of its budget, in the median."""
    mine = judged[judged["batch_size"] == size]
    whole = mine[~was_cut(mine) & ~ended_early(mine)]
    lowest = whole.groupby("learning_rate")["final_height"].median().nsmallest(1).index
    best = whole[whole["learning_rate"].isin(lowest) | (whole["verdict"] == GOOD)].set_index("trial")["learning_rate"]
    falls: dict[float, list[float]] = {}
    for trial, (times, values) in split_curves(curves[curves["trial"].isin(best.index)], "height").items():
        half, low = values[times <= times[-1] / 2][-1], values.min()  # the last height may be above it
        falls.setdefault(best[trial], []).append((half - low) / (values[0] - low) if values[0] > low else 0.0)
    return any(statistics.median(each) > STILL_FALLS for each in falls.values())
