"""The edges over batch size, and the law through them."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reports.figures.marks import FAINT, PANEL, log_axis
from reports.figures.panels import figure_of, legend_below
from reports.judging.at_batch_size import FURTHEST, BatchAxis
from reports.judging.edges import COVERAGE
from reports.judging.judged import Judged
from reports.judging.recommendation import TO_DIVERGENT, TO_GOOD, TO_TOO_HIGH
from reports.style import DIVERGENT, GOOD, STYLES, TOO_HIGH, TOO_LOW

CAPTION = (
    "Where the edges lie at each batch size (filled, with 90 % intervals), the law through them, and what it foretells (hollow)"
    " up to a factor 4 outside, pale. The edge of too low has no law: it belongs to how long a run is."
)
PALE, BAND = 0.35, 0.18  # opacity: of what is outside, of a band
DASHED = (0, (4, 3))
LOOKS: dict[str, tuple[str, str]] = {
    TO_DIVERGENT: (DIVERGENT, "diverges from (unsure)"),
    TO_TOO_HIGH: (TOO_HIGH, "good to"),
    TO_GOOD: (TOO_LOW, "good from"),
}


def plot_batch_law(axis: BatchAxis, *, ax: Axes | None = None) -> Figure:
    """Learning rates of the edges over batch size, both logarithmic, and between them the good range.

    axis: one that foretells (``BatchAxis.foretells``).
    """
    ax = ax or Figure(figsize=(2 * PANEL[0], 4.2), layout="constrained").add_subplot()
    sizes, uses, choices = axis.sizes, axis.choices, [each.batch_size for each in axis.choices]
    foretold = [each.edges for each in uses if not each.tried]
    handles: list[Any] = []
    for name, (verdict, label) in LOOKS.items():
        exact = [centre for centre in axis.centres[name] if not centre.side]
        if not exact:
            continue
        colour = STYLES[verdict].colour
        places = np.array([each.learning_rates for each in exact])
        x, bars = [each.batch_size for each in exact], np.abs(places[:, [0, 2]] - places[:, [1]])
        ax.errorbar(x, places[:, 1], yerr=bars.T, color=colour, fmt="o", ms=5, lw=1.2, capsize=2, zorder=4)
        handles.append(Line2D([], [], color=colour, marker="o", lw=1.2, label=label))
        if name == TO_GOOD or name not in axis.laws:
            ax.plot(x, places[:, 1], color=colour, lw=1, ls=":", zorder=2)
            continue
        for part, (xs, drawn) in axis.stretches.items():
            rates, alpha = np.array([edges[name][1:4] for edges in drawn]).T, 1 if part == "inside" else PALE
            ax.fill_between(xs, rates[1], rates[2], color=colour, alpha=BAND * alpha, lw=0, zorder=1)
            ax.plot(xs, rates[0], color=colour, lw=1.2, alpha=alpha, zorder=2)
        hollow: dict[str, Any] = {"mfc": "none", "mec": colour, "ls": "", "marker": "o", "ms": 5, "zorder": 3}
        ax.plot([each[name].batch_size for each in foretold], [each[name].learning_rate for each in foretold], **hollow)
    safe: dict[str, Any] = {"color": STYLES[GOOD].colour, "alpha": BAND, "lw": 0}
    sure = [each.share >= COVERAGE for each in uses]
    ax.fill_between(choices, [each.low for each in uses], [each.high for each in uses], where=sure, zorder=0, **safe)
    ax.plot(choices, [each.use for each in uses], color="black", lw=1.2, ls=DASHED, zorder=2)
    handles += [Line2D([], [], color="black", lw=1.2, ls=DASHED, label="use"), Patch(**safe, label="safe")]
    handles.append(Line2D([], [], color=FAINT, ls="", marker="o", mfc="none", label="foretold"))
    log_axis(ax, "y", ax.dataLim.intervaly)
    ax.set(xscale="log", xlabel="batch size (examples, log scale)", ylabel="learning rate (log scale)")
    ax.set_xlim(min(sizes) / FURTHEST / 1.15, max(sizes) * FURTHEST * 1.15)
    shown = choices[:: math.ceil(len(choices) / 12)]
    ax.set_xticks(shown, [str(size) for size in shown])
    ax.set_xticks([], minor=True)
    legend_below(ax, handles)
    return figure_of(ax)


def draw(judged: Judged) -> Figure | None:
    """The law of a study that knows the good range at three batch sizes or more."""
    axis = judged.batch_axis
    return plot_batch_law(axis) if axis.foretells else None
