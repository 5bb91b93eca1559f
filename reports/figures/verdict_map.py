"""The map: every learning rate and batch size with its verdict, the edges, and what to use."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.marks import PANEL, RATE, log_axis, mark_edges, mark_recommended, mark_verdicts
from reports.figures.panels import count_verdicts, figure_of, legend_below
from reports.judging.judged import Judged
from reports.style import format_number

CAPTION = (
    "Every learning rate and batch size tried, with its verdict, and below each row its three edges with their"
    " 90 % intervals, in the colour of what begins there. The band is the interval of the recommended learning rate, hatched"
    " where it holds on half of new seeds only."
)


def plot_map(
    cells: pd.DataFrame,
    recommendations: pd.DataFrame | None = None,
    edges: pd.DataFrame | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Verdicts over learning rate and batch size; where given, also the recommended learning rates and the edges.

    Of ``recommendations`` and ``edges`` only the batch sizes of ``cells`` are drawn.
    """
    sizes = sorted(cells["batch_size"].unique())
    ax = ax or Figure(figsize=(2 * PANEL[0], 1.9 + 0.75 * len(sizes)), layout="constrained").add_subplot()
    area = float(np.clip(3000 / cells["learning_rate"].nunique(), 45, 200))
    handles = mark_verdicts(ax, cells["learning_rate"], cells["batch_size"].map(sizes.index), cells["verdict"], area=area)
    title = count_verdicts(cells["verdict"], "learning rate" if len(sizes) == 1 else "cell")
    if recommendations is not None:
        uses = recommendations[recommendations["batch_size"].isin(sizes)]
        handles += mark_recommended(ax, uses, sizes, area=area)
        title = describe_uses(uses, len(sizes)) or f"Nothing to recommend: {title}"
    if edges is not None:
        handles += mark_edges(ax, edges[edges["batch_size"].isin(sizes)], sizes)
    log_axis(ax, "x", cells["learning_rate"])
    ax.set(ylim=(-0.6, len(sizes) - 0.65), xlabel=RATE, ylabel="batch size (examples)")
    ax.set_yticks(range(len(sizes)), [str(size) for size in sizes])
    ax.set_title(title)
    legend_below(ax, handles)
    return figure_of(ax)


def draw(judged: Judged) -> Figure:
    """The map of a study."""
    return plot_map(judged.cells, judged.recommendations, judged.edges)


def describe_uses(uses: pd.DataFrame, n_sizes: int) -> str:
    """What to use of ``recommendations``, by batch size where the title has room for it; "" where nothing is recommended."""
    rates = {size: format_number(rate) for size, rate in zip(uses["batch_size"], uses["learning_rate"], strict=True)}
    if not rates:
        return ""
    if len(rates) > 3:
        low, high = map(format_number, (uses["learning_rate"].min(), uses["learning_rate"].max()))
        answer = f"Use {low} to {high}, by batch size" if low != high else f"Use {low}"
    else:
        answer = "Use " + ", ".join(f"{rate} at {size}" for size, rate in rates.items()).replace(" at ", " at batch size ", 1)
    return answer + (f"; nothing is good at {n_sizes - len(rates)} of {n_sizes}" if len(rates) < n_sizes else "")
