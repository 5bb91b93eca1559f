"""The table ``cells``, which is ``cells.csv``: all seeds of one (batch size, learning rate) as one row.

Columns: ``batch_size``, ``learning_rate``, ``verdict``, ``reason``, ``progress`` (final, median over seeds),
``time_to_bottom_epochs``, ``_steps``, ``_seconds`` (median over seeds, inf if never), ``n_seeds``, ``n_nonfinite``,
``final_height`` (median over seeds), ``floor`` (of its batch size, inf when every learning rate turned non-finite), then
the median of each final metric (``val_...``) over the seeds that have one.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

CELLS = "batch_size learning_rate verdict reason progress time_to_bottom_epochs time_to_bottom_steps".split()
CELLS += "time_to_bottom_seconds n_seeds n_nonfinite final_height floor".split()


def metrics_of(runs: pd.DataFrame) -> list[str]:
    """The columns that hold final metrics."""
    return [column for column in runs if str(column).startswith("val_")]


def cells_of(measured: pd.DataFrame) -> pd.DataFrame:
    """A row a cell but for verdict and floor, and what its verdict is given by beside the columns of ``cells``.

    measured: finished runs of one batch size with their ``progress`` and ``time_to_bottom``.
    """
    by_rate = measured.assign(
        time_to_bottom_epochs=measured["time_to_bottom"],
        time_to_bottom_steps=measured["time_to_bottom"] * measured["steps"] / measured["epochs"],
        time_to_bottom_seconds=measured["time_to_bottom"] * measured["seconds"] / measured["epochs"],
        nonfinite=measured["nonfinite_at"].notna(),
    ).groupby(["batch_size", "learning_rate"], sort=True)
    medians = ["progress", *(name for name in CELLS if name.startswith("time_to_bottom")), "first_height", "final_height"]
    cells = by_rate[medians + metrics_of(measured)].agg(_median)
    cells["n_seeds"] = by_rate.size()
    cells["n_nonfinite"] = by_rate["nonfinite"].sum().astype(int)
    cells["epochs"], cells["steps"] = by_rate["epochs"].max(), by_rate["steps"].max()
    cells["nonfinite_at"] = by_rate["nonfinite_at"].min()
    return cells.reset_index().assign(verdict=None, reason=None)


def _median(values: "pd.Series[Any]") -> float:
    """Median with inf counted as a very large and -inf as a very small value; missing values are left out."""
    kept = np.sort(values.dropna().to_numpy(float))
    if not len(kept):
        return math.nan
    low, high = kept[(len(kept) - 1) // 2], kept[len(kept) // 2]
    return float(low if low == high else low / 2 + high / 2)  # of two huge ones the sum is none
