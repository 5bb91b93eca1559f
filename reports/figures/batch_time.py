"""What batches of a size cost by the clock."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.marks import PANEL, log_axis
from reports.figures.panels import figure_of, legend_below
from reports.judging.batch_size import tell_unlike
from reports.judging.judged import Judged
from reports.style import format_seconds

CAPTION = "Time on the clock, by the runs at the recommended learning rate; of runs trained together, their share."


def plot_batch_time(batch_sizes: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Seconds an epoch takes and seconds to the bottom over batch size, both axes logarithmic, each value written beside it.

    batch_sizes: as ``reports.judging.batch_size.batch_sizes`` returns them, all drawn in one panel; those that never get to the
    bottom stand at the top edge.
    """
    ax = ax or Figure(figsize=(2 * PANEL[0], 3.6), layout="constrained").add_subplot()
    rows = batch_sizes.sort_values("batch_size")
    sizes, seconds = rows["batch_size"], rows[["time_to_bottom_seconds", "seconds_per_epoch"]].astype(float)
    known = seconds.to_numpy()[np.isfinite(seconds) & (seconds > 0)]
    low, high = (known.min(), known.max()) if len(known) else (1.0, 1.0)
    reach = max(high / low, 10) ** 0.2
    never = high * reach
    handles = []
    looks: tuple[dict[str, Any], ...] = (
        {"marker": "o", "ls": "-", "label": "to the bottom"},
        {"marker": "s", "ls": "--", "label": "an epoch"},
    )
    for name, look in zip(seconds, looks, strict=True):
        values, other = seconds[name], seconds.drop(columns=name).iloc[:, 0]
        shown = values.replace(math.inf, never).clip(lower=low)
        handles.append(Line2D([], [], color="black", mfc="white", lw=1, **look))
        ax.plot(sizes, shown.where(np.isfinite(values)), color="black", ls=look["ls"], lw=1)
        ax.plot(sizes, shown, color="black", mfc="white", ls="", marker=look["marker"])
        for size, value, y, above in zip(sizes, values, shown, values > other, strict=True):
            place: dict[str, Any] = {"textcoords": "offset points", "xytext": (0, 6 if above else -6), "ha": "center"}
            if value == value:
                ax.annotate(format_seconds(value), (size, y), **place, va="bottom" if above else "top", fontsize=9)
    log_axis(ax, "y", [low / reach, high * reach])
    ax.set_yticks(ax.get_yticks(), [format_seconds(tick) for tick in ax.get_yticks()])
    ax.set_ylim(low / reach, (never if np.isinf(seconds).any(axis=None) else high) * reach)
    arrived = rows[np.isfinite(seconds["time_to_bottom_seconds"])].nsmallest(1, "time_to_bottom_seconds")
    best = [f"{row.batch_size}, {format_seconds(row.time_to_bottom_seconds)}" for row in arrived.itertuples()]
    soonest = f"Soonest at the bottom by the clock: batch size {best[0]}" if best else "None gets to the bottom"
    unlike = tell_unlike(rows)
    ax.set_title(f"Not to be compared: trained {unlike}" if unlike else soonest, wrap=True)
    ax.set(xscale="log", xlabel="batch size (examples, log scale)", ylabel="time on the clock (log scale)")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_xticks([], minor=True)
    ax.margins(x=0.1)
    legend_below(ax, handles)
    return figure_of(ax)


def draw(judged: Judged) -> Figure | None:
    """The seconds of a study of several batch sizes."""
    return plot_batch_time(judged.batch_sizes) if len(judged.batch_sizes) > 1 else None
