"""The runs on their way down."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from reports.figures.marks import height_axis, verdict_handles
from reports.figures.panels import count_verdicts, make_panels, set_title
from reports.judging.judged import Judged
from reports.judging.verdicts import split_curves
from reports.style import STYLES

CAPTION = (
    "Every run on its way down, or as many as the title of its panel says."
    " A mark on the top edge shows where a run left the valley."
)
LINES = 300  # runs drawn in a panel; more cover each other and take a millisecond each


def plot_learning_curves(runs: pd.DataFrame, curves: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Height over epochs, a thin line a run, a panel a batch size; a mark where a run leaves through the top for good.

    Of more than ``LINES`` runs in a panel that many are drawn, evenly over the learning rates, and its title says so.
    """
    runs = runs[runs["verdict"].notna()]
    paths = _paths(curves)
    measured = runs[runs["trial"].isin(list(paths))]
    x, heights = (np.concatenate([paths[trial][k] for trial in measured["trial"]] or [np.ones(1)]) for k in (0, 1))
    figure, [panels] = make_panels(
        runs["batch_size"],
        "The runs on their way down (dotted: untrained)",
        ["height (loss)"],
        xlabel="epochs trained (log scale)",
        x=x,
        handles=verdict_handles(lines=True),
        into=ax,
    )
    for size, panel in panels.items():
        top = height_axis(panel, heights, runs["first_height"])
        rows, there = (table[table["batch_size"] == size] for table in (runs, measured))
        drawn = _spread(there, LINES)
        for verdict, style in STYLES.items():
            inside, left = [], []
            for trial in drawn.loc[drawn["verdict"] == verdict, "trial"]:
                epochs, height = paths[trial]
                below = np.flatnonzero(height < top)
                end = int(below[-1]) + 1 if len(below) else 0  # first point of the last stay above the top edge
                inside.append(np.column_stack([epochs, height.clip(max=top)])[: end + 1])
                left += [epochs[end]] if end < len(height) else []
            look: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "linewidth": 0.9, "alpha": 0.7}
            panel.add_collection(LineCollection(inside, **look))
            mark: dict[str, Any] = {"marker": style.marker, "mec": "white", "mew": 0.5, "ms": 7, "clip_on": False, "zorder": 3}
            if left:  # a line without points would upset the layout
                panel.plot(left, [top] * len(left), color=style.colour, ls="", **mark)
        some = f"\n{LINES} of them drawn" if len(drawn) < len(there) else ""
        set_title(panel, size, count_verdicts(rows["verdict"], "run") + some)
    return figure


def draw(judged: Judged) -> Figure:
    """The curves of a study."""
    return plot_learning_curves(judged.runs, judged.curves)


def _paths(curves: pd.DataFrame) -> dict[int, tuple[Any, Any]]:
    """Epochs and heights of each trial, for a log scale: what is not finite at the start is shown as early as anything."""
    first = curves.loc[curves["epoch"] > 0, "epoch"].min()
    at_once = ~np.isfinite(curves["value"]) & (curves["epoch"] == 0)
    shown = curves.assign(epoch=curves["epoch"].mask(at_once, 1.0 if math.isnan(first) else first))
    return split_curves(shown[shown["epoch"] > 0], "height")


def _spread(runs: pd.DataFrame, n: int) -> pd.DataFrame:
    """At most ``n`` runs, evenly over the learning rates, in their order."""
    places = np.linspace(0, len(runs) - 1, min(n, len(runs))).round().astype(int)
    return runs.iloc[np.sort(np.argsort(runs["learning_rate"].to_numpy(), kind="stable")[places])]
