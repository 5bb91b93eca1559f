"""What a step sees of the hill: minibatch losses around the height."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.panels import make_panels, set_title
from reports.judging.batch_size import measure_bumpiness, minibatch_points
from reports.judging.judged import Judged
from reports.style import format_number

CAPTION = (
    "What a step sees of the hill, at the smallest and the largest batch size: the height of one run, and a dot for"
    " the loss of each minibatch that was recorded. Bumpiness is how far the dots stray from the line."
)
SHAPES: dict[str, dict[str, Any]] = {
    "height": {"color": "black", "lw": 1},
    "loss of a minibatch": {"color": "#8C5A9E", "marker": ".", "ls": "", "ms": 5},  # of none of the verdicts
}


def plot_bumps(batch_sizes: pd.DataFrame, runs: pd.DataFrame, curves: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """The height of one run, a line, and its minibatch losses, dots: what a step sees of the hill; a panel a batch size.

    batch_sizes: rows of ``batch_sizes``; the run drawn is the seed of middle bumpiness at the learning rate
    named there. All panels have the same range; dots on its top edge lie above it.
    """
    figure, [panels] = make_panels(
        batch_sizes["batch_size"],
        _compare(batch_sizes),
        ["loss"],
        xlabel="epochs trained",
        handles=[Line2D([], [], **shape, label=label) for label, shape in SHAPES.items()],
        into=ax,
    )
    drawn: dict[int, pd.DataFrame] = {}
    for row in batch_sizes.to_dict("records"):
        size, rate, found = row["batch_size"], row["learning_rate"], "no minibatch losses"
        at = (runs["batch_size"] == size) & (runs["learning_rate"] == rate) & runs["verdict"].notna()
        points = minibatch_points(curves, runs.loc[at, "trial"])
        bumps = measure_bumpiness(points).sort_values(kind="stable")
        if len(bumps):
            drawn[size] = points[points["trial"] == bumps.index[(len(bumps) - 1) // 2]]
            found = f"bumpiness {format_number(row['bumpiness'])} at {format_number(rate)}"
        set_title(panels[size], size, found)
    if drawn:
        points = pd.concat(drawn.values())
        low, high = points[["height", "minibatch_loss"]].min().min(), points["height"].max()
        room = (high - low) or 1.0
        top = max(min(points["minibatch_loss"].max(), high + room), high) + 0.05 * room
        for panel in panels.values():
            panel.set(ylim=(low - 0.05 * room, top), xlim=(0, points["epoch"].max()))
        for size, points in drawn.items():
            panels[size].plot(points["epoch"], points["height"], **SHAPES["height"])
            losses = points["minibatch_loss"].clip(upper=top)
            panels[size].plot(points["epoch"], losses, **SHAPES["loss of a minibatch"], clip_on=False)
    return figure


def draw(judged: Judged) -> Figure | None:
    """The smallest and the largest batch size of a study that recorded minibatch losses."""
    bumpy = judged.batch_sizes.dropna(subset=["bumpiness"])
    if bumpy.empty:
        return None
    return plot_bumps(bumpy.iloc[[0, -1] if len(bumpy) > 1 else [0]], judged.runs, judged.curves)


def _compare(batch_sizes: pd.DataFrame) -> str:
    """The two ends in one sentence, where both are known."""
    known = batch_sizes[batch_sizes["bumpiness"] > 0].sort_values("batch_size")
    if len(known) < 2:
        return "What a step sees of the hill"
    (small, much), (large, little) = known[["batch_size", "bumpiness"]].iloc[[0, -1]].to_numpy()
    times = format_number(much / little, digits=2)
    return f"A step at batch size {small:.0f} sees a hill {times} times as bumpy as at {large:.0f}"
