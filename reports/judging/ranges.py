"""What the cells that were tried say about each batch size: the fastest, the good range, where divergence begins."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.judging.followed import is_unfollowed
from reports.judging.next_range import NextRange
from reports.judging.verdicts import FINISHED
from reports.style import DIVERGENT, GOOD, format_number

RANGES = "batch_size fastest time_to_bottom_epochs good_low good_high divergent_from note".split()


def good_ranges(
    cells: pd.DataFrame, *, nexts: Mapping[int, NextRange] | None = None, runs: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row a batch size, from the table of ``classify_cells``.

    Columns: ``batch_size``; ``fastest``, the learning rate that reaches the bottom soonest and stays, and its
    ``time_to_bottom_epochs``; ``good_low`` and ``good_high``, the lowest and highest good learning rate tried;
    ``divergent_from``, the lowest divergent one; ``note``, what to know or do about this row, "" if nothing.
    Learning rates are missing (NaN) where no such cell was tried. These are learning rates that were tried, without error
    bars: ``reports.judging.edges`` has those, ``reports.judging.recommendation`` the one to use.

    nexts: from ``next_ranges``, named where nothing is good. runs: from ``classify``; the note says how many of those that
    finished have no verdict, and batch sizes of which none has one get a row, too.
    """
    notes = _unjudged(runs) if runs is not None else {}
    groups = dict(list(cells.groupby("batch_size")))
    rows = []
    for size in sorted({*groups, *notes}):
        row = _range(int(size), groups[size], (nexts or {}).get(int(size))) if size in groups else _empty(int(size))
        rows.append(row | {"note": "; ".join(filter(None, (notes.get(size, ""), row["note"])))})
    return pd.DataFrame(rows, columns=RANGES)


def _unjudged(runs: pd.DataFrame) -> dict[int, str]:
    """By batch size how many finished runs have no verdict, where there are any."""
    finished = runs[runs["state"].isin(FINISHED)]
    found = {}
    for size, missing in is_unfollowed(finished).groupby(finished["batch_size"]):
        if missing.all():
            found[int(size)] = "nothing is recommended: no run follows the learning rate that was asked, so none is judged"
        elif missing.any():
            found[int(size)] = f"{missing.sum()} of {len(missing)} runs do not follow the learning rate and are not judged"
    return found


def _empty(batch_size: int) -> dict[str, Any]:
    return dict.fromkeys(RANGES[1:-1], math.nan) | {"batch_size": batch_size, "note": ""}


def _range(batch_size: int, cells: pd.DataFrame, further: NextRange | None) -> dict[str, Any]:
    tried = cells["learning_rate"]
    good = cells[cells["verdict"] == GOOD]
    divergent = tried[cells["verdict"] == DIVERGENT]
    row = _empty(batch_size) | {"divergent_from": divergent.min() if len(divergent) else math.nan}
    if good.empty:
        return row | {"note": _nothing_good(cells, further)}

    fastest = good.loc[good["time_to_bottom_epochs"].idxmin()]
    low, high = good["learning_rate"].min(), good["learning_rate"].max()
    row |= {
        "fastest": fastest["learning_rate"],
        "time_to_bottom_epochs": fastest["time_to_bottom_epochs"],
        "good_low": low,
        "good_high": high,
    }
    return row | {"note": "; ".join(_notes(cells, fastest["learning_rate"], low, high))}


def _nothing_good(cells: pd.DataFrame, further: NextRange | None) -> str:
    """Why no learning rate is good, and what to try."""
    everywhere = (cells["verdict"] == DIVERGENT).all()
    why = "every learning rate diverged" if everywhere else "no learning rate reached the bottom"
    rose = cells.loc[cells["progress"] < 0, "learning_rate"]
    if len(rose) and not (cells["progress"] > 0).any():
        lowest = ", the lowest tried," if rose.min() == cells["learning_rate"].min() else ""
        why += f" (heights rise from {format_number(rose.min())}{lowest} on)"
    why += ", so none is called good"
    if further is None:
        return f"{why}: try {'lower learning rates' if everywhere else 'more epochs or a wider range of learning rates'}"
    span = f"{format_number(further.low)} to {format_number(further.high)}"
    return f"{why}; {further.why}: try {span}{'' if everywhere else ', or more epochs'}"


def _notes(cells: pd.DataFrame, fastest: float, low: float, high: float) -> list[str]:
    tried, notes = cells["learning_rate"], []
    if len(tried) == 1:
        return ["only one learning rate was tried, so it is good only for want of another: widen it to a range"]
    if fastest == tried.max():
        notes.append("the fastest lies at the upper end of the range: widen it upwards")
    elif high == tried.max():
        notes.append("the good range may go on above the highest learning rate tried: widen it upwards")
    if fastest == tried.min():
        notes.append("the fastest lies at the lower end of the range: widen it downwards")
    elif low == tried.min():
        notes.append("the good range may go on below the lowest learning rate tried: widen it downwards")
    gaps = cells[tried.between(low, high) & (cells["verdict"] != GOOD)]
    if len(gaps):
        notes.append(f"{len(gaps)} of {int(tried.between(low, high).sum())} learning rates inside the good range are not good")
    return notes
