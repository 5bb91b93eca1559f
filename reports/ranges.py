"""What the cells that were tried say about each batch size: the fastest, the good range, where divergence begins."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports.style import DIVERGENT, GOOD

RANGES = (
    "batch_size",
    "fastest",
    "time_to_bottom_epochs",
    "good_low",
    "good_high",
    "divergent_from",
    "note",
)


def good_ranges(cells: pd.DataFrame) -> pd.DataFrame:
    """One row a batch size, from the table of ``classify_cells``.

    Columns: ``batch_size``; ``fastest``, the learning rate that reaches the bottom soonest and stays, and its
    ``time_to_bottom_epochs``; ``good_low`` and ``good_high``, the lowest and highest good learning rate tried;
    ``divergent_from``, the lowest divergent one; ``note``, what to know or do about this row, "" if nothing.
    Learning rates are missing (NaN) where no such cell was tried. These are learning rates that were tried, without error
    bars: ``reports.boundaries`` has those, ``reports.recommendation`` the one to use.
    """
    rows = [_range(int(batch_size), group) for batch_size, group in cells.groupby("batch_size", sort=True)]
    return pd.DataFrame(rows, columns=list(RANGES))


def _range(batch_size: int, cells: pd.DataFrame) -> dict[str, Any]:
    tried = cells["learning_rate"]
    good = cells[cells["verdict"] == GOOD]
    divergent = tried[cells["verdict"] == DIVERGENT]
    row: dict[str, Any] = dict.fromkeys(RANGES[1:-1], math.nan)
    row |= {"batch_size": batch_size, "divergent_from": divergent.min() if len(divergent) else math.nan}
    if good.empty:
        everywhere = len(divergent) == len(cells)
        remedy = "lower learning rates" if everywhere else "more epochs or a wider range of learning rates"
        why = "every learning rate diverged" if everywhere else "no learning rate reached the bottom"
        return row | {"note": f"{why}, so none is called good: try {remedy}"}

    fastest = good.loc[good["time_to_bottom_epochs"].idxmin()]
    low, high = good["learning_rate"].min(), good["learning_rate"].max()
    row |= {
        "fastest": fastest["learning_rate"],
        "time_to_bottom_epochs": fastest["time_to_bottom_epochs"],
        "good_low": low,
        "good_high": high,
    }
    return row | {"note": "; ".join(_notes(cells, fastest["learning_rate"], low, high))}


def _notes(cells: pd.DataFrame, fastest: float, low: float, high: float) -> list[str]:
    tried, notes = cells["learning_rate"], []
    if len(tried) == 1:
        return ["only one learning rate was tried, so it is good only for want of another: try a range"]
    if fastest == tried.max():
        notes.append("the fastest lies at the upper end of the range: widen it upwards")
    elif fastest == tried.min():
        notes.append("the fastest lies at the lower end of the range: widen it downwards")
    elif low == tried.min():
        notes.append("the good range may go on below the lowest learning rate tried")
    elif high == tried.max():
        notes.append("the good range may go on above the highest learning rate tried")
    gaps = cells[tried.between(low, high) & (cells["verdict"] != GOOD)]
    if len(gaps):
        notes.append(f"{len(gaps)} of {int(tried.between(low, high).sum())} learning rates inside the good range are not good")
    return notes
