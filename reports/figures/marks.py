"""What figures of one study and of several are drawn with: marks by verdict, edges, recommended learning rates, log axes."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from reports.judging.edges import COVERAGE, EDGES
from reports.style import GOOD, STYLES, TOO_HIGH, format_number, log_ticks

PANEL = (3.8, 2.7)  # inches; two panels side by side stay legible at the width of a page
RATE = "learning rate (log scale)"
FAINT = "#777777"
BAND = 0.25  # opacity of the interval of a recommended learning rate
RECOMMENDED = "recommended, its interval"
RING: dict[str, Any] = {"marker": "o", "mfc": "none", "mec": "black", "mew": 1.8}


def mark_verdicts(ax: Axes, x: Any, y: Any, verdicts: "pd.Series[str]", *, area: float = 50) -> list[Any]:
    """Marks by verdict, area in square points; returns one legend entry a verdict."""
    look: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5, "clip_on": False, "zorder": 3}
    marks = {verdict: verdicts == verdict for verdict in STYLES}
    return [
        ax.scatter(x[marks[verdict]], y[marks[verdict]], s=area, c=style.colour, marker=style.marker, label=verdict, **look)
        for verdict, style in STYLES.items()
    ]


def verdict_handles(*, lines: bool = False) -> list[Line2D]:
    """Legend entries of the verdicts, as marks or as lines."""
    return [
        Line2D([], [], color=s.colour, label=verdict, **({"ls": s.dash} if lines else {"ls": "", "marker": s.marker, "ms": 8}))
        for verdict, s in STYLES.items()
    ]


def mark_recommended(ax: Axes, recommendations: pd.DataFrame, sizes: list[int], *, area: float) -> list[Any]:
    """A ring around each recommended learning rate and a band over its interval, in the row of its batch size."""
    for row in recommendations.to_dict("records"):
        y = sizes.index(row["batch_size"])
        ax.barh(y, row["high"] - row["low"], 0.3, left=row["low"], zorder=1, **_look(row))
        ax.plot(row["learning_rate"], y, **RING, ms=1.5 * math.sqrt(area), zorder=4)
    return [Line2D([], [], **RING, ms=11, **_band(), label=RECOMMENDED)] if len(recommendations) else []


def mark_use(ax: Axes, batch_size: int, recommendations: pd.DataFrame | None) -> None:
    """A line at the learning rate recommended for this batch size and a band over its interval, over the whole height."""
    if recommendations is None:
        return
    for row in recommendations[recommendations["batch_size"] == batch_size].to_dict("records"):
        ax.axvspan(row["low"], row["high"], zorder=0, **_look(row))
        ax.axvline(row["learning_rate"], color="black", lw=0.9, ls=(0, (4, 3)), zorder=0)


def use_handle(recommendations: pd.DataFrame | None) -> list[Line2D]:
    """Legend entry of ``mark_use``, where there is anything to use."""
    look: dict[str, Any] = {"marker": "|", "mec": "black", "ms": 11, "mew": 1, **_band()}
    return [Line2D([], [], **look, label=RECOMMENDED)] if recommendations is not None and len(recommendations) else []


def _look(use: Mapping[str, Any]) -> dict[str, Any]:
    """Of the band over the interval of a row of ``recommend``: hatched where it holds on half of new seeds only."""
    if use["interval_share"] < COVERAGE:
        return {"facecolor": "none", "edgecolor": STYLES[TOO_HIGH].colour, "hatch": "////", "lw": 0}
    return {"color": STYLES[GOOD].colour, "alpha": BAND, "lw": 0}


def _band() -> dict[str, Any]:
    """The band as a legend shows it, without the transparency that the mark on it would share."""
    colour = tuple(1 - BAND * (1 - part) for part in to_rgb(STYLES[GOOD].colour))
    return {"color": colour, "lw": 11, "solid_capstyle": "butt"}


def mark_seeds(ax: Axes, cells: pd.DataFrame, runs: pd.DataFrame, column: str, low: float, high: float) -> None:
    """A bar at each cell from the lowest to the highest of its seeds, in the colour of the cell's verdict, cut at the ends.

    cells, runs: of one batch size; column: of ``runs``, without missing values.
    """
    spans = runs[column].astype(float).clip(low, high).groupby(runs["learning_rate"]).agg(["min", "max"])
    rows = cells[["learning_rate", "verdict"]].merge(spans, left_on="learning_rate", right_index=True)
    colours = [STYLES[verdict].colour for verdict in rows["verdict"]]
    ax.vlines(rows["learning_rate"], rows["min"], rows["max"], colors=colours, lw=3.5, alpha=0.4, zorder=2)


def seeds_handle(runs: pd.DataFrame | None) -> list[Line2D]:
    """Legend entry of ``mark_seeds``, where a learning rate has several."""
    several = runs is not None and runs.duplicated(["batch_size", "learning_rate"]).any()
    look: dict[str, Any] = {"color": FAINT, "alpha": 0.6, "ls": "", "marker": "|", "ms": 12, "mew": 3.5}
    return [Line2D([], [], **look, label="range of the seeds")] if several else []


def mark_edges(ax: Axes, edges: pd.DataFrame, sizes: list[int]) -> list[Any]:
    """A tick at each edge and a line over its 90 % interval, below the row of its batch size, in the upper verdict's colour."""
    inside = edges.dropna(subset=["learning_rate"])
    for row in inside.to_dict("records"):
        below = 0.24 + 0.07 * list(EDGES).index(row["edge"])
        y, colour = sizes.index(row["batch_size"]) - below, STYLES[EDGES[row["edge"]][1]].colour
        ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.5, zorder=2, scalex=False)
        ax.plot(row["learning_rate"], y, marker="|", color=colour, ms=7, mew=2, ls="", zorder=2)
    return [edge_handle()] if len(inside) else []


def edge_handle() -> Line2D:
    """Legend entry of edges and their intervals."""
    return Line2D([], [], color=FAINT, lw=1.5, marker="|", ms=8, mew=2, label="edge, 90 % interval")


class HeightScale(NamedTuple):
    """How heights are shown: from ``bottom`` to ``top``, a little above ``start``, the highest untrained; low: the lowest."""

    low: float
    start: float
    bottom: float
    top: float
    logarithmic: bool


def height_scale(heights: Any, starts: "pd.Series[float]") -> HeightScale:
    """The scale that shows the heights of runs on their way down; those that left the valley are above it."""
    finite, starts = np.asarray(heights, dtype=float)[np.isfinite(heights)], starts[np.isfinite(starts)]
    start = float(starts.max() if len(starts) else finite.max(initial=1.0))
    low = float(finite.min(initial=start))
    if spans_decades(low, start):
        return HeightScale(low, start, low * (low / start) ** 0.05, start * (start / low) ** 0.12, logarithmic=True)
    room = start - low or abs(start) or 1.0
    return HeightScale(low, start, low - 0.05 * room, start + 0.2 * room, logarithmic=False)


def height_axis(ax: Axes, heights: Any, starts: "pd.Series[float]") -> float:
    """Scale the axis to the heights and return its upper edge; dots: the median of the untrained ones."""
    scale = height_scale(heights, starts)
    if scale.logarithmic:
        ax.set_yscale("log")
        log_axis(ax, "y", [scale.low, scale.start])
    ax.set_ylim(scale.bottom, scale.top)
    starts = starts[np.isfinite(starts)]
    ax.axhline(float(starts.median()) if len(starts) else scale.start, color=FAINT, lw=1, ls=(0, (1, 2)), zorder=0)
    return scale.top


def spans_decades(low: float, high: float) -> bool:
    """Whether a log scale shows these values better."""
    return low > 0 and high / low > 10


def log_axis(ax: Axes, which: str, values: Any, *, extra: dict[float, str] | None = None, at_most: int = 6) -> None:
    """A log scale with a few plainly written ticks: decades, or 1-2-5, or the values themselves if they are few."""
    values = np.unique(np.asarray(values, dtype=float))
    ticks = log_ticks(values[0], values[-1], at_most=at_most)
    named = {tick: format_number(tick) for tick in ticks} | (extra or {})
    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_ticks(list(named), labels=list(named.values()))
    axis.set_ticks([], minor=True)
