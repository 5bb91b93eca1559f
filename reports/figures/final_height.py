"""Where runs end, over their learning rate."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.marks import FAINT, height_axis, mark_use, mark_verdicts, use_handle, verdict_handles
from reports.figures.panels import make_panels, set_title, write_instead
from reports.judging.judged import Judged
from reports.judging.verdicts import was_cut
from reports.style import format_number

CAPTION = (
    "Where each run ends, a mark a seed; the line is the median of those that were trained to their end. Marks on the top edge"
    " ended above it."
)


def plot_final_height(runs: pd.DataFrame, recommendations: pd.DataFrame | None = None, *, ax: Axes | None = None) -> Figure:
    """Final height over learning rate, a mark a run and a line for the median; above the untrained height it is cut off.

    recommendations: where given, the learning rates to use are drawn too.
    """
    if len(runs) and runs["verdict"].isna().all():
        return write_instead("No run has a verdict.", ax)
    runs = runs[runs["verdict"].notna()]
    handles = [*verdict_handles(), Line2D([], [], color=FAINT, lw=1, label="median"), *use_handle(recommendations)]
    figure, [panels] = make_panels(
        runs["batch_size"],
        "Where the runs end (dotted: untrained)",
        ["final height (loss)"],
        x=runs["learning_rate"],
        handles=handles,
        into=ax,
    )
    for size, panel in panels.items():
        rows = runs[runs["batch_size"] == size]
        top = height_axis(panel, runs["final_height"], runs["first_height"])
        mark_use(panel, size, recommendations)
        mark_verdicts(panel, rows["learning_rate"], rows["final_height"].clip(upper=top), rows["verdict"])
        whole = rows[~was_cut(rows)]
        median = whole["final_height"].groupby(whole["learning_rate"]).median()
        panel.plot(median.index, median.clip(upper=top), color=FAINT, lw=1, zorder=1)
        lowest = f"lowest: {format_number(median.min())} at {format_number(median.idxmin())}"
        set_title(panel, size, lowest if median.min() < math.inf else "none stays finite")
    return figure


def draw(judged: Judged) -> Figure:
    """The ends of a study's runs."""
    return plot_final_height(judged.runs, judged.recommendations)
